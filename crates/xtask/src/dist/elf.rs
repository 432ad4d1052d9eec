//! What an ELF file says of the systems that can run it.

use anyhow::Context;
use object::{
    Endianness,
    elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};

/// The oldest glibc that a program runs with, as major and minor version.
pub(super) type GlibcVersion = (u32, u32);

/// The facts of a program.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ElfFacts {
    /// The machine that it is for, as Rust names it.
    pub(super) machine: &'static str,
    /// The greatest version of the symbols that it needs of glibc.
    pub(super) glibc: GlibcVersion,
    /// The size of the pages that its segments are aligned to: a kernel with larger ones does not start it.
    pub(super) page_bytes: u64,
}

/// Reads them from the contents of a file.
pub(super) fn facts(content: &[u8]) -> anyhow::Result<ElfFacts> {
    let header = FileHeader64::<Endianness>::parse(content).context("reading the header")?;
    let endian = header.endian().context("reading the header")?;
    let machine = match header.e_machine(endian) {
        EM_X86_64 => "x86_64",
        EM_AARCH64 => "aarch64",
        _ => "unknown",
    };
    let segments = header.program_headers(endian, content).context("reading the segments")?;
    let loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let page_bytes = loaded.map(|segment| segment.p_align(endian)).min().context("nothing is loaded")?;
    let sections = header.sections(endian, content).context("reading the sections")?;
    let mut glibc = None;
    if let Some((mut libraries, names)) =
        sections.gnu_verneed(endian, content).context("reading the versions of symbols")?
    {
        let names = sections.strings(endian, content, names).context("reading the names of versions")?;
        while let Some((_, mut versions)) = libraries.next().context("reading a library")? {
            while let Some(version) = versions.next().context("reading a version")? {
                let name = version.name(endian, names).context("reading the name of a version")?;
                glibc = glibc.max(glibc_version(&String::from_utf8_lossy(name)));
            }
        }
    }
    Ok(ElfFacts { machine, glibc: glibc.context("it needs no version of glibc")?, page_bytes })
}

/// The version that a set of symbols came with: `GLIBC_2.17`, or `GLIBC_2.2.5`. The set that stands for packed relocations has no
/// number.
fn glibc_version(set: &str) -> Option<GlibcVersion> {
    let set = set.strip_prefix("GLIBC_")?;
    if set == "ABI_DT_RELR" {
        return Some((2, 36));
    }
    let mut numbers = set.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The version that a text states: `glibc 2.17`.
pub(super) fn stated(text: &str) -> Option<GlibcVersion> {
    text.split("glibc ").skip(1).find_map(|rest| {
        let (major, rest) = rest.split_once('.')?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, digits.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_facts_are_those_of_a_program_of_this_machine() {
        let program = std::env::current_exe().expect("a test has a path");
        let content = fs::read(program).expect("it can be read");
        let facts = facts(&content).expect("it is a program for glibc");
        assert_eq!(facts.machine, std::env::consts::ARCH);
        // What the standard library needs at least, and no version that is still to come.
        assert!((2, 17) <= facts.glibc && facts.glibc < (3, 0), "{facts:?}");
        assert!(facts.page_bytes >= 4096 && facts.page_bytes.is_power_of_two(), "{facts:?}");
        assert!(super::facts(b"#!/bin/sh\n").is_err());
        assert!(super::facts(&content[..content.len() / 2]).is_err(), "its sections are at its end");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(glibc_version("GLIBC_2.4") < glibc_version("GLIBC_2.17"));
        assert_eq!(glibc_version("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(glibc_version("GLIBC_ABI_DT_RELR"), Some((2, 36)));
        assert_eq!(glibc_version("GCC_3.0"), None);
        assert_eq!(stated("needs glibc or\nglibc 2.17 (RHEL 7)"), Some((2, 17)));
        assert_eq!(stated("any glibc"), None);
    }
}
