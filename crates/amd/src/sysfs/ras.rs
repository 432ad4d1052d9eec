//! The error counters of each block and the bad pages of memory (`Documentation/gpu/amdgpu/ras.rst`). Only products with RAS
//! have these files.

use afd_model::{Known, Missing};
use afd_probe::{Facts, PciFunction};

/// Blocks with error counters (`amdgpu_ras.c`, `ras_block_string`).
pub(crate) const BLOCKS: [&str; 20] = [
    "umc",
    "sdma",
    "gfx",
    "mmhub",
    "athub",
    "pcie_bif",
    "hdp",
    "xgmi_wafl",
    "df",
    "smn",
    "sem",
    "mp0",
    "mp1",
    "fuse",
    "mca",
    "vcn",
    "jpeg",
    "ih",
    "mpio",
    "mmsch",
];

/// The files of one device.
#[derive(Clone, Debug, Default)]
pub(crate) struct RasFiles {
    blocks: Vec<(&'static str, String)>,
    pages: Option<String>,
}

/// Error counts of one block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ErrorCounts {
    pub(crate) uncorrectable: Option<u64>,
    pub(crate) correctable: Option<u64>,
    pub(crate) deferred: Option<u64>,
}

/// Bad pages of memory, by state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct BadPages {
    /// Retired.
    pub(crate) retired: u64,
    /// Pending retirement.
    pub(crate) pending: u64,
    /// Could not be retired.
    pub(crate) failed: u64,
    /// In a state that is not documented.
    pub(crate) unrecognized: u64,
}

impl RasFiles {
    pub(crate) fn find(facts: &mut Facts<'_>, function: &PciFunction) -> RasFiles {
        let directory = function.attribute("ras");
        let present = facts.names("errors", &directory);
        let file = |name: String| present.contains(&name).then(|| format!("{directory}/{name}"));
        // With the newer error architecture (ACA) the files have another name.
        let of_block =
            |block: &str| file(format!("{block}_err_count")).or_else(|| file(format!("aca_{block}")));
        RasFiles {
            blocks: BLOCKS.into_iter().filter_map(|block| Some((block, of_block(block)?))).collect(),
            pages: file("gpu_vram_bad_pages".to_owned()),
        }
    }

    /// The counts of each block that has a file.
    pub(crate) fn counts(&self, facts: &mut Facts<'_>) -> Vec<(&'static str, Known<ErrorCounts>)> {
        let read = |(block, path): &(&'static str, String)| {
            (*block, facts.parse_known("errors", path, parse_error_counts))
        };
        self.blocks.iter().map(read).collect()
    }

    /// The bad pages. The file is empty if there are none, and may be longer than other files: it has a line for each.
    pub(crate) fn pages(&self, facts: &mut Facts<'_>) -> Known<BadPages> {
        let Some(path) = &self.pages else { return Missing::NotExposed.into() };
        let mut pages = BadPages::default();
        let skipped = facts.lines("retired_pages", path, |line| pages.add(line));
        skipped.map(|unrecognized| BadPages { unrecognized, ..pages })
    }
}

impl BadPages {
    /// Adds the page of a line `0x00327f5d : 0x00001000 : R`: its number, its size and its state: `R` reserved, `P` pending, `F`
    /// failed. Whether the line has one.
    fn add(&mut self, line: &str) -> bool {
        let count = match line.rsplit(':').next().map(str::trim) {
            Some("R") => &mut self.retired,
            Some("P") => &mut self.pending,
            Some("F") => &mut self.failed,
            _ => return false,
        };
        *count = count.saturating_add(1);
        true
    }
}

/// Lines `ue: 0`, `ce: 3` and, on newer kernels, `de: 0`; or `Query currently inaccessible` while the driver resets the device.
fn parse_error_counts(text: &str) -> Result<Known<ErrorCounts>, &'static str> {
    if text.contains("inaccessible") {
        return Ok(Missing::NotAvailable.into());
    }
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok())
    };
    let counts = ErrorCounts { uncorrectable: count("ue"), correctable: count("ce"), deferred: count("de") };
    if counts == ErrorCounts::default() {
        Err("expected error counts such as \"ue: 0\"")
    } else {
        Ok(Known::Value(counts))
    }
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_of_errors() {
        let counts = parse_error_counts("ue: 0\nce: 3\n").expect("the lines are well formed");
        let expected = ErrorCounts { uncorrectable: Some(0), correctable: Some(3), deferred: None };
        assert_eq!(counts, Known::Value(expected));
        assert_eq!(
            parse_error_counts("Query currently inaccessible").map(|known| known.is_known()),
            Ok(false)
        );
        assert!(parse_error_counts("nonsense").is_err());
    }

    fn pages(text: &str) -> (Known<BadPages>, usize) {
        let folder = TestHost::with_files([("/ras/gpu_vram_bad_pages", text)]);
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        let ras = RasFiles { pages: Some("/ras/gpu_vram_bad_pages".to_owned()), ..RasFiles::default() };
        (ras.pages(&mut facts), facts.into_problems().len())
    }

    #[test]
    fn bad_pages_are_counted_by_state() {
        let text =
            "0x01 : 0x00001000 : R\n0x02 : 0x00001000 : R\n0x03 : 0x00001000 : P\n0x4 : 0x1000 : F\n\0\0";
        let counted = BadPages { retired: 2, pending: 1, failed: 1, unrecognized: 0 };
        assert_eq!(pages(text), (Known::Value(counted), 0));
        assert_eq!(pages(""), (Known::Value(BadPages::default()), 0));
    }

    #[test]
    fn a_list_of_any_length_is_counted_and_a_malformed_line_costs_only_itself() {
        let text = format!("{}0x9 : 0x1000 : Q\n0x8 : 0x1000 : F\n", "0x01 : 0x00001000 : R\n".repeat(7000));
        let counted = BadPages { retired: 7000, pending: 0, failed: 1, unrecognized: 1 };
        assert_eq!(pages(&text), (Known::Value(counted), 1));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_error_counts(&text);
            let _ = BadPages::default().add(&text);
        }
    }
}
