//! Reads facts of a device from attribute files: a value, or the reason why there is none. A reason that does not occur on a
//! healthy node is recorded as a problem.

use std::{fmt::Display, str::FromStr};

use afd_host::{Host, ReadError, ReadErrorKind};
use afd_model::{DeviceId, Known, Missing, Problem};

/// Reads facts for one probe, and collects its problems.
#[derive(Debug)]
pub struct Facts<'h> {
    host: &'h Host,
    probe: &'static str,
    device: Option<DeviceId>,
    problems: Vec<Problem>,
}

impl<'h> Facts<'h> {
    /// For the probe of this name.
    pub fn new(host: &'h Host, probe: &'static str) -> Facts<'h> {
        Facts { host, probe, device: None, problems: Vec::new() }
    }

    /// The host that is read.
    pub fn host(&self) -> &'h Host {
        self.host
    }

    /// Problems from now on concern this device, or the node as a whole.
    pub fn about(&mut self, device: Option<DeviceId>) {
        self.device = device;
    }

    /// All problems so far.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Records a problem, if the reason is one; the missing fact.
    pub fn missing<T>(
        &mut self,
        fact: &str,
        reason: Missing,
        path: Option<&str>,
        message: impl Display,
    ) -> Known<T> {
        if reason.is_problem() {
            self.problems.push(Problem {
                probe: self.probe.to_owned(),
                device: self.device,
                fact: fact.to_owned(),
                reason,
                path: path.map(str::to_owned),
                message: message.to_string(),
            });
        }
        reason.into()
    }

    /// The content of a file as it is.
    pub fn bytes(&mut self, fact: &str, path: &str) -> Known<Vec<u8>> {
        self.host.read(path).map_or_else(|error| self.unread(fact, &error), Known::Value)
    }

    /// The text of a file up to the first NUL, trimmed. An empty file is malformed.
    pub fn text(&mut self, fact: &str, path: &str) -> Known<String> {
        self.bytes(fact, path).and_then(|bytes| match String::from_utf8(until_nul(bytes)) {
            Ok(text) if text.trim().is_empty() => {
                self.missing(fact, Missing::Malformed, Some(path), "the file is empty")
            }
            Ok(text) => Known::Value(text.trim().to_owned()),
            Err(_) => self.missing(fact, Missing::Malformed, Some(path), "the file is not UTF-8"),
        })
    }

    /// The text of a file, parsed; an error of `parse` is a problem.
    pub fn parse<T, E: Display>(
        &mut self,
        fact: &str,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Known<T> {
        self.text(fact, path).and_then(|text| match parse(&text) {
            Ok(value) => Known::Value(value),
            Err(error) => self.missing(
                fact,
                Missing::Malformed,
                Some(path),
                format_args!("{}: {error}", excerpt(&text)),
            ),
        })
    }

    /// As [`Facts::parse`], for a parser that recognizes texts which mean "no value".
    pub fn parse_known<T, E: Display>(
        &mut self,
        fact: &str,
        path: &str,
        parse: impl FnOnce(&str) -> Result<Known<T>, E>,
    ) -> Known<T> {
        self.parse(fact, path, parse).and_then(|value| value)
    }

    /// A number, or another type that is parsed from text.
    pub fn number<T: FromStr<Err: Display>>(&mut self, fact: &str, path: &str) -> Known<T> {
        self.parse(fact, path, str::parse)
    }

    /// Calls `line` with each line of a list of any length. A line that `line` refuses is skipped, and all such lines are one
    /// problem; how many they are.
    pub fn lines(&mut self, fact: &str, path: &str, mut line: impl FnMut(&str) -> bool) -> Known<u64> {
        let (mut skipped, mut first) = (0_u64, None);
        let read = self.host.read_lines(path, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if !text.trim().is_empty() && !line(text.trim()) {
                skipped += 1;
                first.get_or_insert_with(|| excerpt(&text));
            }
        });
        if let Err(error) = read {
            return self.unread(fact, &error);
        }
        if let Some(first) = first {
            let message =
                format_args!("{skipped} lines are not in the documented format, the first is {first}");
            let _: Known<()> = self.missing(fact, Missing::Malformed, Some(path), message);
        }
        Known::Value(skipped)
    }

    /// The last component of a link: `xe` of `driver -> ../../../bus/pci/drivers/xe`.
    pub fn link_name(&mut self, fact: &str, path: &str) -> Known<String> {
        match self.host.link(path) {
            Ok(text) => Known::Value(text.rsplit('/').next().unwrap_or_default().to_owned()),
            Err(error) => self.unread(fact, &error),
        }
    }

    /// The names in a directory. A directory that may not be listed is a problem.
    pub fn listing(&mut self, fact: &str, path: &str) -> Known<Vec<String>> {
        self.host.list(path).map_or_else(|error| self.unread(fact, &error), Known::Value)
    }

    /// The names in a directory; none where it does not exist or cannot be listed.
    pub fn names(&mut self, fact: &str, path: &str) -> Vec<String> {
        self.listing(fact, path).into_value().unwrap_or_default()
    }

    fn unread<T>(&mut self, fact: &str, error: &ReadError) -> Known<T> {
        self.missing(fact, reason(error.kind), Some(&error.path), error.kind)
    }
}

/// Why a fact is not known whose file could not be read.
pub(crate) fn reason(cause: ReadErrorKind) -> Missing {
    match cause {
        ReadErrorKind::Absent => Missing::NotExposed,
        ReadErrorKind::Denied(_) => Missing::NotPermitted,
        ReadErrorKind::NoValue(_) => Missing::NotAvailable,
        ReadErrorKind::TooLong | ReadErrorKind::Failed(_) => Missing::Unreadable,
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// The beginning of a text, for a message.
fn excerpt(text: &str) -> String {
    let mut head: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        head.push('…');
    }
    format!("\"{head}\"")
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    #[test]
    fn an_unreadable_fact_is_missing_with_a_problem_that_names_path_and_cause() {
        let folder = TestHost::new()
            .file("/good", "81559\n")
            .file("/padded", b"81559\n\0\0\0")
            .file("/empty", "")
            .file("/words", "eighty thousand")
            .file("/latin", b"caf\xe9")
            .link("/circle", "circle");
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        assert_eq!(facts.number("memory_bytes", "/good"), Known::Value(81559));
        assert_eq!(facts.number("memory_bytes", "/padded"), Known::Value(81559));
        assert_eq!(facts.number::<u64>("memory_bytes", "/absent").missing(), Some(Missing::NotExposed));
        for (path, reason) in [
            ("/empty", Missing::Malformed),
            ("/words", Missing::Malformed),
            ("/latin", Missing::Malformed),
            ("/circle", Missing::Unreadable),
        ] {
            assert_eq!(facts.number::<u64>("memory_bytes", path).missing(), Some(reason), "{path}");
        }
        let problems: Vec<_> = facts
            .into_problems()
            .into_iter()
            .map(|problem| format!("{} {}", problem.path.unwrap_or_default(), problem.message))
            .collect();
        assert_eq!(
            problems,
            [
                "/empty the file is empty",
                "/words \"eighty thousand\": invalid digit found in string",
                "/latin the file is not UTF-8",
                "/circle Too many levels of symbolic links (os error 40)",
            ]
        );
    }
}
