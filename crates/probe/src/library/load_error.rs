//! Why the loader refused a library, with what to do about it.
//!
//! A library of the host is loaded in the image of the agent, whose C and C++ libraries may be older than those of the host.

/// The message of the loader, and if it names a cause that an image can have, what the library needs and what there is.
/// `available` gives the newest version of a set (`GLIBC`, `GLIBCXX`) that the file of the message defines.
pub(crate) fn explained(message: &str, available: impl Fn(&str, &str) -> Option<String>) -> String {
    match missing_version(message) {
        Some(MissingVersion { file, set, version }) => {
            let has = available(set, file)
                .map_or_else(|| "an older version".to_owned(), |available| format!("{set} {available}"));
            format!(
                "{message}; the library needs {set} {version} and the image of the agent has {has}: build the image on a \
                 distribution that is at least as new as that of the library (build argument BUILDER of daemonset/Containerfile)"
            )
        }
        None => match missing_file(message) {
            Some(file) => {
                format!("{message}; the library needs {file}, which is neither in the image nor beside it")
            }
            None => message.to_owned(),
        },
    }
}

/// A version of symbols that a file lacks.
#[derive(Debug, Eq, PartialEq)]
struct MissingVersion<'m> {
    file: &'m str,
    set: &'m str,
    version: &'m str,
}

/// ``/lib/libm.so.6: version `GLIBC_2.38' not found (required by /opt/acme/lib/libacme.so)`` (glibc, `elf/dl-version.c`).
fn missing_version(message: &str) -> Option<MissingVersion<'_>> {
    let (file, rest) = message.split_once(": version `")?;
    let (name, _) = rest.split_once("' not found")?;
    let (set, version) = name.rsplit_once('_')?;
    let file = file.rsplit(' ').next().unwrap_or(file);
    Some(MissingVersion { file, set, version })
}

/// `libdrm.so.2: cannot open shared object file: No such file or directory` (glibc, `elf/dl-load.c`).
fn missing_file(message: &str) -> Option<&str> {
    let (file, _) = message.split_once(": cannot open shared object file: No such file")?;
    let file = file.rsplit(' ').next().unwrap_or(file);
    // A path is the library itself.
    (!file.contains('/')).then_some(file)
}

/// The newest version of a set among the strings of a library: `3.4.30` of `GLIBCXX_3.4.30`.
pub(crate) fn newest_version(set: &str, content: &[u8]) -> Option<String> {
    let prefix = format!("{set}_");
    let versions = content.split(|byte| *byte == 0).filter_map(|text| {
        let version = str::from_utf8(text).ok()?.strip_prefix(&prefix)?;
        let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        Some((parts?, version.to_owned()))
    });
    versions.max().map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_is_named_with_the_one_that_there_is() {
        let message = "/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by \
                       /host/opt/acme/lib/libacme.so)";
        let explained = explained(message, |set, file| {
            assert_eq!((set, file), ("GLIBCXX", "/lib/x86_64-linux-gnu/libstdc++.so.6"));
            Some("3.4.30".to_owned())
        });
        assert!(
            explained.starts_with(message)
                && explained
                    .contains("needs GLIBCXX 3.4.32 and the image of the agent has GLIBCXX 3.4.30: build"),
            "{explained}"
        );
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        let explained = |message| explained(message, |_, _| None);
        assert!(
            explained("libdrm.so.2: cannot open shared object file: No such file or directory")
                .ends_with("; the library needs libdrm.so.2, which is neither in the image nor beside it")
        );
        assert!(explained("/lib/libm.so.6: version `GLIBC_2.38' not found").contains("has an older version"));
        for message in [
            "/host/lib/a.so: cannot open shared object file: No such file or directory",
            "/host/lib/a.so: invalid ELF header",
            ": version `",
            "",
        ] {
            assert_eq!(explained(message), message);
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let content =
            b"\0GLIBCXX_3.4.9\0GLIBCXX_3.4.30\0GLIBCXX_DEBUG_MESSAGE_LENGTH\0GLIBC_2.38\0GLIBCXX_3.4\0";
        assert_eq!(newest_version("GLIBCXX", content).as_deref(), Some("3.4.30"));
        assert_eq!(newest_version("CXXABI", content), None);
    }
}
