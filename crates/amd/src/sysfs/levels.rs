//! The clock levels of a domain: `pp_dpm_sclk`, `pp_dpm_mclk` and similar files.

/// The clocks of a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClockLevels {
    pub(crate) min_hertz: f64,
    pub(crate) max_hertz: f64,
    pub(crate) current_hertz: Option<f64>,
}

/// Lines `1: 2100Mhz *`; the star marks the current level, `S:` is deep sleep.
///
/// # Errors
/// When a line has another form.
pub(crate) fn parse_levels(text: &str) -> Result<ClockLevels, &'static str> {
    const EXPECTED: &str = "expected clock levels such as \"1: 2100Mhz *\"";
    let mut levels = ClockLevels { min_hertz: f64::INFINITY, max_hertz: 0.0, current_hertz: None };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, level) = line.split_once(':').ok_or(EXPECTED)?;
        let (number, suffix) = level.trim().split_once("Mhz").ok_or(EXPECTED)?;
        let hertz = number.parse::<u32>().map_err(|_| EXPECTED)? as f64 * 1e6;
        levels.max_hertz = levels.max_hertz.max(hertz);
        if name.trim() != "S" {
            levels.min_hertz = levels.min_hertz.min(hertz);
        }
        if suffix.contains('*') {
            levels.current_hertz = Some(hertz);
        }
    }
    if levels.max_hertz > 0.0 && levels.min_hertz.is_finite() { Ok(levels) } else { Err(EXPECTED) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_of_clocks() {
        let levels = parse_levels("S: 132Mhz *\n0: 500Mhz\n1: 2100Mhz\n").expect("the lines are well formed");
        assert_eq!(levels, ClockLevels { min_hertz: 5e8, max_hertz: 2.1e9, current_hertz: Some(1.32e8) });
        assert!(parse_levels("S: 132Mhz *\n").is_err(), "deep sleep alone is not a level");
        assert!(parse_levels("0: fast").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_levels(&text);
        }
    }
}
