//! Words that are secrets wherever they are, in a path as in a line of a file: UUIDs and GUIDs, names of network and RDMA devices
//! that contain a MAC address or a GUID, and who built a kernel module on which host.

use afd_derive::vendors::VENDORS;

/// A line with `replace` applied to each such word.
pub(super) fn rewrite(line: &str, replace: &mut impl FnMut(&str) -> String) -> String {
    let is_separator = |c: char| c.is_whitespace() || c == '\0' || "/()[]{}<>=,;:\"'".contains(c);
    let mut text = String::with_capacity(line.len());
    for part in line.split_inclusive(is_separator) {
        let (word, separator) = part.split_at(part.trim_end_matches(is_separator).len());
        // As in `Release Build  (root@host)`.
        if text.ends_with('(') && separator == ")" && is_account(word) {
            text += &replace(word);
        } else {
            text += &rewrite_name(word, replace);
        }
        text += separator;
    }
    text
}

/// A name in a path with `replace` applied to what is secret in it.
pub(super) fn rewrite_name(name: &str, replace: &mut impl FnMut(&str) -> String) -> String {
    match secret_of_name(name) {
        Some(secret) => format!("{}{}", &name[..name.len() - secret.len()], replace(secret)),
        None => name.to_owned(),
    }
}

/// The end of a name that is a secret.
fn secret_of_name(name: &str) -> Option<&str> {
    let mut prefixes = VENDORS.iter().flat_map(|record| record.redactions.uuid_prefixes).copied();
    if is_uuid(name) || prefixes.any(|prefix| name.strip_prefix(prefix).is_some_and(is_uuid)) {
        return Some(name);
    }
    // `enx3c6d661faa01` of udev (systemd.net-naming-scheme(7)), `rocex3c6d6603001faa01` of rdma-core (rdma_rename(8)).
    [16, 12].into_iter().find_map(|digits| {
        let (prefix, address) = name.split_at_checked(name.len().checked_sub(digits)?)?;
        let is_prefix =
            prefix.len() > 1 && prefix.ends_with('x') && prefix.bytes().all(|c| c.is_ascii_lowercase());
        (is_prefix && address.bytes().all(|c| c.is_ascii_hexdigit())).then_some(address)
    })
}

/// `6d71a2f4-0000-0000-0000-000000000000`.
fn is_uuid(word: &str) -> bool {
    let groups: Vec<&str> = word.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|c| c.is_ascii_hexdigit())
}

/// `user@host`.
fn is_account(word: &str) -> bool {
    word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_words_are_found_and_others_are_not() {
        let rewritten = |line: &str| rewrite(line, &mut |_| "X".to_owned());
        for (line, expected) in [
            ("a {6d71a2f4-1111-2222-3333-444444444444}\n", "a {X}\n"),
            ("GPU-6d71a2f4-1111-2222-3333-444444444444=1", "X=1"),
            ("x (root@gpu-7.example) y (builder) (@) root@host", "x (X) y (builder) (@) root@host"),
            ("INTERFACE=enx3c6d661faa01", "INTERFACE=enxX"),
            ("rocex3c6d6603001faa01", "rocexX"),
        ] {
            assert_eq!(rewritten(line), expected);
        }
        for line in [
            "0x3c6d6603001faa01 x3c6d6603001faa01",
            "eth0 mlx5_0 ibp24s0 card1-DP-1 pci0000:00 LNXSYSTM:00",
            "6d71a2f4-1111-2222-3333-44444444444g 6d71a2f4-1111-2222-3333",
            "of_node=/pcie@14100000\t\n",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }
}
