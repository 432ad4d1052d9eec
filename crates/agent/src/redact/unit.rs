//! Units of systemd, of which AFD reads one setting. Their other settings may hold secrets: the password of a proxy in
//! `Environment=`, a token in `ExecStart=`.
//!
//! The format is that of systemd.syntax(7): sections in brackets, lines `key=value`.

use afd_probe::systemd::logical_lines;

/// The setting that stays, with its section.
const SETTING: &str = "LimitMEMLOCK";

/// Whether a file is a unit, or a drop-in of one.
pub(super) fn is_unit(path: &str) -> bool {
    path.split('/').any(|folder| folder == "systemd")
}

/// The names of the sections and the limit of locked memory.
pub(super) fn settings(text: &str) -> String {
    let mut kept = String::new();
    logical_lines(text).iter().for_each(|line| keep(line, &mut kept));
    kept
}

fn keep(line: &str, kept: &mut String) {
    let line = line.trim();
    if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
        if section.chars().all(|c| c.is_ascii_alphabetic()) {
            *kept += &format!("[{section}]\n");
        }
    } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| key.trim_end() == SETTING) {
        let value = value.trim();
        // What is no limit stays none.
        let value = if is_limit(value) { value } else { "unparsed" };
        *kept += &format!("{key}={value}\n");
    }
}

/// `infinity`, `64M`, `8388608:infinity`, or nothing.
fn is_limit(value: &str) -> bool {
    value.split(':').all(|limit| {
        let limit = limit.trim();
        let number = limit.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let is_number = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        limit == "infinity" || is_number && limit.len() - number.len() <= 2
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sections_and_the_limit_of_locked_memory_stay() {
        let text = "[Unit]\nDescription=secret\n\n[Service]\nEnvironment=\"HTTP_PROXY=http://user:secret@proxy:3128\"\n\
                    ExecStart=/usr/bin/containerd \\\n  --token secret \\\n# LimitMEMLOCK=1\n  --token secret\n\
                    LimitMEMLOCK=8388608:infinity\n LimitMEMLOCK = 64M\n;LimitMEMLOCK=secret\n[X-secret]\n";
        assert_eq!(settings(text), "[Unit]\n[Service]\nLimitMEMLOCK=8388608:infinity\nLimitMEMLOCK =64M\n");
    }

    #[test]
    fn a_continued_line_is_one_setting() {
        assert_eq!(settings("ExecStart=a \\\nLimitMEMLOCK=64M\n"), "");
        assert_eq!(settings("LimitMEMLOCK=\\\n# secret\n  64M\n"), "LimitMEMLOCK=64M\n");
        assert_eq!(settings("LimitMEMLOCK=64M \\\nEnvironment=secret\n"), "LimitMEMLOCK=unparsed\n");
        assert_eq!(settings("LimitMEMLOCK=secret\nLimitMEMLOCK=\nLimitMEMLOCK=1G\\"), {
            "LimitMEMLOCK=unparsed\nLimitMEMLOCK=\nLimitMEMLOCK=1G\n"
        });
    }

    #[test]
    fn units_are_recognized_by_their_folder() {
        for path in [
            "/etc/systemd/system/k3s.service",
            "/usr/lib/systemd/system/containerd.service.d/http-proxy.conf",
            "/lib/systemd/system/crio.service",
        ] {
            assert!(is_unit(path), "{path}");
        }
        assert!(!is_unit("/etc/os-release"));
    }
}
