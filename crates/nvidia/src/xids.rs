//! XIDs: the numbers by which the driver tells of errors.
//!
//! Meanings and what to do about them are those of NVIDIA's "XID Errors" manual (docs.nvidia.com/deploy/xid-errors,
//! r580 and r590 catalogues). What a program does wrong on its own account says nothing of the device.

/// What an XID means for the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Severity {
    /// A program's own mistake; the device is well.
    Program,
    /// Somebody should look into it.
    Degraded,
    /// The device, or the MIG instance, cannot take work until it is reset, restarted or replaced.
    Failed,
}

/// A row of the table.
pub(crate) struct Xid {
    pub(crate) number: u32,
    pub(crate) severity: Severity,
    pub(crate) meaning: &'static str,
}

const fn xid(number: u32, severity: Severity, meaning: &'static str) -> Xid {
    Xid { number, severity, meaning }
}

use Severity::{Degraded, Failed, Program};

const TABLE: [Xid; 40] = [
    xid(13, Program, "graphics engine exception"),
    xid(31, Program, "memory page fault"),
    xid(32, Degraded, "invalid or corrupted push buffer stream"),
    xid(38, Degraded, "driver firmware error"),
    xid(43, Program, "the GPU stopped processing a program that faulted"),
    xid(45, Program, "channels of a program were removed before it ended"),
    xid(48, Failed, "double-bit ECC error"),
    xid(61, Degraded, "internal microcontroller breakpoint"),
    xid(62, Failed, "internal microcontroller halt"),
    xid(63, Degraded, "a page was retired or a row remapped"),
    xid(64, Failed, "retiring a page or remapping a row failed"),
    xid(68, Program, "video processor exception"),
    xid(69, Program, "graphics engine class error"),
    xid(74, Failed, "NVLink error"),
    xid(79, Failed, "the GPU has fallen off the bus"),
    xid(92, Degraded, "high rate of single-bit ECC errors"),
    xid(94, Degraded, "contained memory error"),
    xid(95, Failed, "uncontained memory error"),
    xid(109, Program, "context switch timeout"),
    xid(110, Failed, "security fault"),
    xid(119, Failed, "GSP firmware did not answer"),
    xid(120, Failed, "GSP firmware error"),
    xid(121, Degraded, "corrected error on the link to the CPU (C2C)"),
    xid(140, Failed, "unrecovered ECC error"),
    xid(143, Failed, "the GPU could not be initialised"),
    xid(144, Failed, "NVLink error (SAW)"),
    xid(145, Failed, "NVLink error (RLW)"),
    xid(146, Failed, "NVLink error (TLW)"),
    xid(147, Failed, "NVLink error (TREX)"),
    xid(148, Failed, "NVLink error (NVLPW_CTRL)"),
    xid(149, Failed, "NVLink error (NETIR)"),
    xid(150, Failed, "NVLink error (MSE)"),
    // The driver changed what it asks for; the recovery action itself is read.
    xid(154, Program, "the recovery action changed"),
    xid(155, Failed, "NVLink error told by software"),
    xid(156, Degraded, "a resource of the GPU was retired"),
    xid(157, Failed, "retiring a resource of the GPU failed"),
    xid(158, Failed, "fatal timeout of the GPU"),
    xid(167, Failed, "fatal timeout of PCIe"),
    xid(171, Failed, "uncorrectable memory error in DRAM"),
    xid(172, Failed, "uncorrectable memory error in SRAM"),
];

/// The row of an XID. One that the table lacks is newer than it, and somebody should look into it.
pub(crate) fn find(number: u32) -> Xid {
    let known = TABLE.iter().find(|row| row.number == number);
    known.map_or_else(
        || xid(number, Degraded, "an error that this version does not know"),
        |row| xid(number, row.severity, row.meaning),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_row_and_a_new_one_is_looked_into() {
        assert!(TABLE.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(find(79).severity, Failed);
        assert_eq!(find(31).severity, Program);
        assert_eq!(find(9999).severity, Degraded);
    }
}
