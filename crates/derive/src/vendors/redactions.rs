//! What `afd record` must replace in a recording of a vendor's devices.

/// What identifies a machine, a board or a device in the files and library answers of a vendor, besides what every vendor
/// may have (serial numbers, MAC addresses, host names).
#[derive(Debug)]
pub struct Redactions {
    /// Names of files that hold one secret each.
    pub files: &'static [(&'static str, SecretForm)],
    /// Beginnings of lines, in files of many lines, that hold one secret each.
    pub lines: &'static [(&'static str, SecretForm)],
    /// Names of files with more secrets than such lines, such as binary records; the vendor's crate blanks them.
    pub binary_files: &'static [&'static str],
    /// Library calls that answer with a secret.
    pub calls: &'static [&'static str],
    /// Fields of a library's structures that hold a secret.
    pub fields: &'static [&'static str],
    /// Prefixes of the vendor's UUIDs, which stay.
    pub uuid_prefixes: &'static [&'static str],
}

impl Redactions {
    /// No secrets of the vendor's own.
    pub const NONE: Redactions =
        Redactions { files: &[], lines: &[], binary_files: &[], calls: &[], fields: &[], uuid_prefixes: &[] };
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// A decimal number, which another file may write in hexadecimal.
    Decimal,
    /// A UUID, a name or hexadecimal digits.
    Text,
}
