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

    /// The bad pages. The file is empty if there are none.
    pub(crate) fn pages(&self, facts: &mut Facts<'_>) -> Known<BadPages> {
        let Some(path) = &self.pages else { return Missing::NotExposed.into() };
        facts.bytes("retired_pages", path).and_then(|bytes| {
            parse_bad_pages(&String::from_utf8_lossy(&bytes)).map_or_else(
                |error| facts.missing("retired_pages", Missing::Malformed, Some(path), error),
                Known::Value,
            )
        })
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

/// A line `0x00327f5d : 0x00001000 : R` per page: its number, its size and its state: `R` reserved, `P` pending, `F` failed.
fn parse_bad_pages(text: &str) -> Result<BadPages, &'static str> {
    let mut pages = BadPages::default();
    for line in text.split(['\n', '\0']).map(str::trim).filter(|line| !line.is_empty()) {
        match line.rsplit(':').next().map(str::trim) {
            Some("R") => pages.retired += 1,
            Some("P") => pages.pending += 1,
            Some("F") => pages.failed += 1,
            _ => return Err("expected bad pages such as \"0x00327f5d : 0x00001000 : R\""),
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn bad_pages_are_counted_by_state() {
        let text =
            "0x01 : 0x00001000 : R\n0x02 : 0x00001000 : R\n0x03 : 0x00001000 : P\n0x4 : 0x1000 : F\n\0\0";
        assert_eq!(parse_bad_pages(text), Ok(BadPages { retired: 2, pending: 1, failed: 1 }));
        assert_eq!(parse_bad_pages(""), Ok(BadPages::default()));
        assert!(parse_bad_pages("0x01 : 0x00001000 : Q").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_error_counts(&text);
            let _ = parse_bad_pages(&text);
        }
    }
}
