//! The clock levels of a domain: `pp_dpm_sclk`, `pp_dpm_mclk` and similar files.

use afd_probe::Facts;

/// The clocks of a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClockLevels {
    pub(crate) min_hertz: f64,
    pub(crate) max_hertz: f64,
    pub(crate) current_hertz: Option<f64>,
}

/// The levels in a file. On some products at idle the file is empty, and there is no value.
pub(crate) fn read_levels(facts: &mut Facts<'_>, path: &str) -> Option<ClockLevels> {
    let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace());
    if facts.bytes("clocks", path).value().is_none_or(|bytes| is_blank(bytes)) {
        return None;
    }
    facts.parse("clocks", path, parse_levels).into_value()
}

/// Lines `1: 2100Mhz *`; the star marks the current level, `S:` is deep sleep. The current level may be a line without a name. A
/// line of another form is skipped.
///
/// # Errors
/// When no line has a level.
fn parse_levels(text: &str) -> Result<ClockLevels, &'static str> {
    let mut levels = ClockLevels { min_hertz: f64::INFINITY, max_hertz: 0.0, current_hertz: None };
    for line in text.lines() {
        let (name, level) = line.split_once(':').unwrap_or(("", line));
        let Some((number, suffix)) = level.trim().split_once("Mhz") else { continue };
        let Ok(megahertz) = number.parse::<u32>() else { continue };
        let hertz = f64::from(megahertz) * 1e6;
        levels.max_hertz = levels.max_hertz.max(hertz);
        if name.trim() != "S" {
            levels.min_hertz = levels.min_hertz.min(hertz);
        }
        if suffix.contains('*') {
            levels.current_hertz = Some(hertz);
        }
    }
    let has_levels = levels.max_hertz > 0.0 && levels.min_hertz.is_finite();
    has_levels.then_some(levels).ok_or("expected clock levels such as \"1: 2100Mhz *\"")
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_of_clocks() {
        let levels = parse_levels("S: 132Mhz *\n0: 500Mhz\n1: 2100Mhz\n").expect("the lines are well formed");
        assert_eq!(levels, ClockLevels { min_hertz: 5e8, max_hertz: 2.1e9, current_hertz: Some(1.32e8) });
        assert!(parse_levels("S: 132Mhz *\n").is_err(), "deep sleep alone is not a level");
        assert!(parse_levels("0: fast").is_err());
    }

    #[test]
    fn a_malformed_line_costs_only_itself() {
        let levels =
            parse_levels("0: 400Mhz\n1: much\n3: 1067Mhz\n   1066Mhz *\n").expect("there are levels");
        assert_eq!(levels, ClockLevels { min_hertz: 4e8, max_hertz: 1.067e9, current_hertz: Some(1.066e9) });
    }

    #[test]
    fn an_empty_file_is_no_problem() {
        let folder = TestHost::with_files([("/empty", "\n"), ("/words", "fast\n")]);
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        assert_eq!(read_levels(&mut facts, "/empty"), None);
        assert_eq!(read_levels(&mut facts, "/words"), None);
        assert_eq!(facts.into_problems().len(), 1, "words are no levels");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_levels(&text);
        }
    }
}
