//! `pp_dpm_sclk` and its kin: the clocks that a unit can run at.

/// What such a file tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Levels {
    pub(crate) min_hertz: f64,
    pub(crate) max_hertz: f64,
    pub(crate) current_hertz: Option<f64>,
}

/// Lines such as `1: 2100Mhz *`; the star marks the current level, `S:` is deep sleep.
pub(crate) fn parse_levels(text: &str) -> Result<Levels, &'static str> {
    const WRONG: &str = "no levels such as \"1: 2100Mhz *\"";
    let mut levels = Levels { min_hertz: f64::INFINITY, max_hertz: 0.0, current_hertz: None };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, level) = line.split_once(':').ok_or(WRONG)?;
        let (number, rest) = level.trim().split_once("Mhz").ok_or(WRONG)?;
        let hertz = number.parse::<u32>().map_err(|_| WRONG)? as f64 * 1e6;
        levels.max_hertz = levels.max_hertz.max(hertz);
        if name.trim() != "S" {
            levels.min_hertz = levels.min_hertz.min(hertz);
        }
        if rest.contains('*') {
            levels.current_hertz = Some(hertz);
        }
    }
    if levels.max_hertz > 0.0 && levels.min_hertz.is_finite() { Ok(levels) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_of_clocks() {
        let levels = parse_levels("S: 132Mhz *\n0: 500Mhz\n1: 2100Mhz\n").expect("the lines are right");
        assert_eq!(levels, Levels { min_hertz: 5e8, max_hertz: 2.1e9, current_hertz: Some(1.32e8) });
        assert!(parse_levels("S: 132Mhz *\n").is_err(), "sleep is no level");
        assert!(parse_levels("0: fast").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_levels(&text);
        }
    }
}
