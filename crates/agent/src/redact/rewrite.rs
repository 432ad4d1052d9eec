//! Finds the secrets in the content of a file, and makes placeholders for them.

use afd_derive::vendors::{SecretForm, VENDORS};

use super::{unit, words};

/// Files that contain one secret, whatever the vendor.
const SECRET_FILES: &[&str] = &[
    "serial_number",
    "serial",
    "hostname",
    "uuid",
    // RDMA devices, their ports and the switches and subnets that these are attached to.
    "node_guid",
    "sys_image_guid",
    "port_guid",
    "node_desc",
    "board_id",
    "phys_switch_id",
    // Network devices.
    "address",
    "perm_address",
    // The machine, by its firmware and by its operating system.
    "product_serial",
    "product_uuid",
    "board_serial",
    "board_asset_tag",
    "chassis_serial",
    "chassis_asset_tag",
    "machine-id",
    "boot_id",
];
/// Folders whose files contain one secret each: the addresses of an RDMA port.
const SECRET_FOLDERS: &[&str] = &["gids"];

/// A file's content with `replace` applied to each of its secrets. Content that is not UTF-8 may have secrets as well.
pub(super) fn rewrite(
    path: &str,
    content: &[u8],
    replace: &mut impl FnMut(&str, SecretForm) -> String,
) -> Vec<u8> {
    if unit::is_unit(path) {
        return unit::settings(&String::from_utf8_lossy(content)).into_bytes();
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let folder = path.rsplit('/').nth(1).unwrap_or_default();
    let form = form_of_file(name).or_else(|| SECRET_FOLDERS.contains(&folder).then_some(SecretForm::Text));
    if let Some(form) = form {
        let text = String::from_utf8_lossy(content);
        let secret = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if is_unset(secret) {
            return encode(&text, content);
        }
        return encode(&text.replacen(secret, &replace(secret, form), 1), content);
    }
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| rewrite_line(line, replace).unwrap_or_else(|| line.to_vec())).collect()
}

/// A line with its secrets replaced, if it has any.
fn rewrite_line(line: &[u8], replace: &mut impl FnMut(&str, SecretForm) -> String) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(line);
    let rewritten = match secret_of_line(&text) {
        Some((secret, form)) => text.replacen(secret, &replace(secret, form), 1),
        None => words::rewrite(&text, &mut |secret| {
            if is_unset(secret) { secret.to_owned() } else { replace(secret, SecretForm::Text) }
        }),
    };
    (rewritten != text).then(|| encode(&rewritten, line))
}

/// The text as bytes that are UTF-8 only where the original is: a reader finds the same fault.
fn encode(text: &str, original: &[u8]) -> Vec<u8> {
    if str::from_utf8(original).is_ok() {
        return text.as_bytes().to_vec();
    }
    text.split(char::REPLACEMENT_CHARACTER).map(str::as_bytes).collect::<Vec<_>>().join(&0xff_u8)
}

/// The form of the secret in a file of this name, if it contains one.
fn form_of_file(name: &str) -> Option<SecretForm> {
    let of_vendors = VENDORS.iter().flat_map(|record| record.redactions.files);
    let form = of_vendors.copied().find_map(|(file, form)| (file == name).then_some(form));
    form.or_else(|| SECRET_FILES.contains(&name).then_some(SecretForm::Text))
}

/// The secret in a line of a file, if it contains one.
fn secret_of_line(line: &str) -> Option<(&str, SecretForm)> {
    let beginnings = VENDORS.iter().flat_map(|record| record.redactions.lines).copied();
    let (value, form) = beginnings
        .map(|(beginning, form)| (line.trim_start().strip_prefix(beginning), form))
        .find_map(|(value, form)| Some((value?, form)))?;
    let secret = value.trim_matches(|c: char| c.is_whitespace() || c == ':');
    (!is_unset(secret)).then_some((secret, form))
}

/// Whether there is no secret: nothing, or zeros, by which a source says so.
pub(super) fn is_unset(secret: &str) -> bool {
    let digits = secret.strip_prefix("0x").unwrap_or(secret);
    digits.chars().all(|c| c == '0' || !c.is_alphanumeric())
}

/// A string of the same form: the digits of `number`, right-aligned, in place of the secret's digits and lower-case
/// hexadecimal letters; every other letter becomes `x`, and punctuation stays. Digits that find no room there replace letters.
pub(super) fn placeholder(secret: &str, number: u64) -> String {
    let prefixes = VENDORS.iter().flat_map(|record| record.redactions.uuid_prefixes).copied();
    let prefix = prefixes.chain(["0x"]).find(|prefix| secret.starts_with(prefix)).unwrap_or_default();
    let is_hexadecimal =
        secret[prefix.len()..].bytes().all(|byte| byte.is_ascii_hexdigit() || b"-:x".contains(&byte));
    let mut remaining = number;
    let mut characters: Vec<char> = secret.chars().collect();
    for character in characters[prefix.chars().count()..].iter_mut().rev() {
        let is_digit = character.is_ascii_digit() || (is_hexadecimal && character.is_ascii_hexdigit());
        if is_digit {
            *character = char::from_digit((remaining % 10) as u32, 10).expect("a digit is less than ten");
            remaining /= 10;
        } else if character.is_alphanumeric() {
            *character = 'x';
        }
    }
    for character in characters[prefix.chars().count()..].iter_mut().rev().filter(|c| **c == 'x') {
        if remaining == 0 {
            break;
        }
        *character = char::from_digit((remaining % 10) as u32, 10).expect("a digit is less than ten");
        remaining /= 10;
    }
    characters.into_iter().collect()
}
