//! The reasons of health and conditions: one table, from which `docs/conditions.md` is generated.

mod effects;
mod table;

pub use self::table::REASONS;

/// What a reason is about. The class decides how the conditions treat it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ReasonClass {
    /// Nothing is wrong.
    Fine,
    /// The device works, with a fault that an operator should look into.
    Degraded,
    /// A fault of the device by its own evidence, or a device that is missing.
    DeviceFault,
    /// The kernel driver, or its library, does not fit or is not there.
    Driver,
    /// The library does not answer.
    Library,
    /// The device-to-device fabric is not up.
    Fabric,
    /// Kubernetes does not offer the device.
    Offer,
    /// The driver or the devices are being worked on.
    Maintenance,
    /// Nothing is known yet.
    Unknown,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ReasonRow {
    /// The reason in CamelCase; [`XID`] stands for all XIDs.
    pub code: &'static str,
    /// What it is about.
    pub class: ReasonClass,
    /// What it does to the conditions.
    pub effect: ReasonEffect,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
}

/// What a reason does to the conditions, in words.
#[derive(Clone, Copy, Debug)]
pub struct ReasonEffect {
    /// The condition `Ready`.
    pub ready: &'static str,
    /// The condition `Problem`.
    pub problem: &'static str,
    /// How long it must last.
    pub grace: &'static str,
}

/// The code of the row of all XIDs; that of XID 79 is `Xid79`.
pub const XID: &str = "Xid<number>";

impl ReasonClass {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            ReasonClass::Fine => "fine",
            ReasonClass::Degraded => "degraded",
            ReasonClass::DeviceFault => "device fault",
            ReasonClass::Driver => "driver",
            ReasonClass::Library => "library",
            ReasonClass::Fabric => "fabric",
            ReasonClass::Offer => "offer",
            ReasonClass::Maintenance => "maintenance",
            ReasonClass::Unknown => "unknown",
        }
    }
}

/// The row of a reason, if the table has it.
pub fn row_of(code: &str) -> Option<&'static ReasonRow> {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let listed = if code.strip_prefix("Xid").is_some_and(is_number) { XID } else { code };
    REASONS.iter().find(|row| row.code == listed)
}

/// The anchor of a row in `docs/conditions.md`.
pub fn anchor(code: &str) -> String {
    let name = if code == XID { "xid" } else { code };
    format!("reason-{}", name.to_ascii_lowercase())
}

/// The class of a reason; none of one that the table lacks. It counts where a device has failed: a device that works is at most
/// degraded, whatever the class of its reasons.
pub fn class_of(code: &str) -> Option<ReasonClass> {
    row_of(code).map(|row| row.class)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reason_has_one_row_and_a_name_in_camel_case() {
        let mut codes = BTreeSet::new();
        for row in REASONS {
            assert!(codes.insert(row.code), "{} is there twice", row.code);
            let is_camel_case = row.code.starts_with(|c: char| c.is_ascii_uppercase())
                && row.code.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(is_camel_case || row.code == XID, "{}", row.code);
            assert!(!row.meaning.is_empty() && !row.action.is_empty(), "{}", row.code);
        }
    }

    #[test]
    fn the_class_of_an_xid_is_that_of_all() {
        assert_eq!(class_of("Xid79"), Some(ReasonClass::DeviceFault));
        assert_eq!(class_of("DriverMissing"), Some(ReasonClass::Driver));
        for unknown in ["Xid", "Xid7a", "NoSuchReason", ""] {
            assert_eq!(class_of(unknown), None, "{unknown}");
        }
    }
}
