//! XIDs: the numbers by which NVIDIA's driver reports errors.
//!
//! Numbers and actions are those of NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors, r590: Ampere and newer; its
//! archive and dcgm-exporter's list for older GPUs). A number is [`XidSeverity::Failed`] where the immediate action is to
//! reset the GPU or to restart the machine or the node, [`XidSeverity::Notice`] where it is to restart the program, or none
//! with nothing to investigate, and [`XidSeverity::Degraded`] where there is something to investigate, or no action is
//! documented. Exceptions state their reason.

/// What an XID means for the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum XidSeverity {
    /// The device is not affected: an error of a program, or a notice.
    Notice,
    /// An operator should investigate.
    Degraded,
    /// The device, or the MIG device, cannot take work until it is reset, restarted or replaced.
    Failed,
}

/// An XID of the catalogue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Xid {
    /// What it means for the device.
    pub(crate) severity: XidSeverity,
    /// What happened.
    pub(crate) meaning: &'static str,
}

use XidSeverity::{Degraded, Failed, Notice};

/// Numbers that mean the same are in one row, sorted by the first of them.
const TABLE: [(&[u32], XidSeverity, &str); 87] = [
    (&[1, 2, 3, 4, 6, 7, 9, 12], Degraded, "invalid or corrupted push buffer"),
    (&[8], Notice, "the GPU stopped processing a program"),
    (&[11, 25], Notice, "invalid push buffer stream"),
    (&[13], Notice, "graphics engine exception"),
    (&[14], Notice, "intentional error (test)"),
    (&[16, 19, 56], Degraded, "display engine error"),
    (&[18], Degraded, "the GPU may not master the PCI bus"),
    (&[20, 21, 22, 27, 28, 29, 34, 35, 36, 42], Degraded, "video processor exception"),
    (&[24, 30], Degraded, "GPU semaphore error"),
    (&[26], Degraded, "framebuffer timeout"),
    (&[31], Notice, "memory page fault"),
    // By the catalogue rarely an error of a program: data in transit over PCIe.
    (&[32], Degraded, "invalid or corrupted push buffer stream"),
    (&[33], Degraded, "security processor error"),
    (&[37], Notice, "the firmware lacks what a program asked it for"),
    (&[38], Degraded, "driver firmware error"),
    (
        &[39, 40, 41, 70, 71, 72, 75, 76, 77, 85, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135],
        Notice,
        "copy engine exception",
    ),
    // By the catalogue the GPU stays healthy.
    (&[43], Notice, "the GPU stopped processing a program that faulted"),
    (&[44], Degraded, "graphics engine fault during a context switch"),
    (&[45], Notice, "channels of a program were removed before it ended"),
    (&[46], Failed, "the GPU stopped processing"),
    (&[47, 65, 73, 142], Degraded, "video encoder error"),
    (&[48], Failed, "double-bit ECC error"),
    (&[54], Failed, "auxiliary power is not connected to the board"),
    (&[57], Degraded, "error in programming the memory interface"),
    (&[58], Degraded, "unstable memory interface"),
    (&[59], Degraded, "internal microcontroller error"),
    (&[60], Notice, "security processor exception"),
    (&[61], Degraded, "internal microcontroller breakpoint"),
    (&[62], Failed, "internal microcontroller halt"),
    // No action is needed, but a spare row or page is used up.
    (&[63], Degraded, "a page was retired or a row remapped"),
    (&[64], Failed, "retiring a page or remapping a row failed"),
    (&[66, 67], Degraded, "illegal access by the driver"),
    (&[68, 83, 84, 88, 89, 96, 97, 98], Notice, "video decoder exception"),
    (&[69], Notice, "graphics engine class error"),
    (&[74], Failed, "NVLink error"),
    (&[78], Degraded, "a vGPU could not be started"),
    (&[79], Failed, "the GPU has fallen off the bus"),
    (&[80], Notice, "corrupted data was sent to the GPU"),
    (&[82, 99, 100, 101, 102, 103, 104, 105], Notice, "JPEG decoder error"),
    (&[86, 139], Notice, "optical flow engine exception"),
    (&[92], Degraded, "high rate of single-bit ECC errors"),
    (&[93], Degraded, "the InfoROM's limit of wear is reached"),
    // The program must be restarted, and the GPU reset when it is idle.
    (&[94], Degraded, "contained memory error"),
    (&[95], Failed, "uncontained memory error"),
    (&[106, 107], Notice, "test message"),
    (&[108], Notice, "remote access over NVLink could not be translated"),
    // Where a reset is needed, the driver's recovery action asks for it.
    (&[109], Notice, "context switch timeout"),
    (&[110], Failed, "security fault"),
    (&[111, 112, 113, 114, 115, 116, 117, 118], Degraded, "display error"),
    (&[119], Failed, "GSP firmware did not answer"),
    (&[120], Failed, "GSP firmware error"),
    (&[121], Degraded, "corrected error on the link to the CPU (C2C)"),
    (&[122, 123, 124], Degraded, "access to the board's flash memory failed"),
    (&[125], Degraded, "InfoROM file system error"),
    (&[136], Failed, "an NVLink could not be trained"),
    (&[137], Notice, "NVLink privilege error"),
    (&[138, 152, 153], Degraded, "deep learning accelerator error"),
    (&[140], Failed, "unrecovered ECC error"),
    (&[141], Degraded, "error of CUDA's fast path"),
    (&[143], Failed, "the GPU could not be initialised"),
    (&[144], Failed, "NVLink error (SAW)"),
    (&[145], Failed, "NVLink error (RLW)"),
    (&[146], Failed, "NVLink error (TLW)"),
    (&[147], Failed, "NVLink error (TREX)"),
    (&[148], Failed, "NVLink error (NVLPW_CTRL)"),
    (&[149], Failed, "NVLink error (NETIR)"),
    (&[150], Failed, "NVLink error (MSE)"),
    (&[151], Failed, "keys of confidential computing could not be changed"),
    // The recovery action itself is read from NVML.
    (&[154], Notice, "the recovery action changed"),
    (&[155], Failed, "NVLink error reported by software"),
    // Where a reset is needed, the driver's recovery action asks for it.
    (&[156], Degraded, "a resource of the GPU was retired"),
    // No spare resource is left, though programs still run.
    (&[157], Failed, "retiring a resource of the GPU failed"),
    (&[158], Failed, "fatal timeout of the GPU"),
    (&[159], Degraded, "error on the link to the CPU (CHI)"),
    (&[160], Degraded, "a channel was retired"),
    (&[161], Degraded, "retiring a channel failed"),
    (&[162], Notice, "power smoothing works again"),
    (&[163], Degraded, "power smoothing was switched off"),
    (&[164], Degraded, "the power smoothing hardware is nearly worn out"),
    (&[165], Degraded, "the power smoothing hardware is worn out"),
    (&[166], Degraded, "NVLink traffic of confidential computing before the link was encrypted"),
    // No action is documented for the next two; they stop the GPU.
    (&[167], Failed, "fatal timeout of PCIe"),
    (&[168], Degraded, "errors in protected memory, which leaves less of it"),
    (&[169], Failed, "internal microcontroller halt (SEC2)"),
    (&[170], Degraded, "NVLink interrupt in confidential computing"),
    (&[171], Failed, "uncorrectable memory error in DRAM"),
    (&[172], Failed, "uncorrectable memory error in SRAM"),
];

/// The numbers that have a counter of their own, from 0 on. The others, of which most are rare, are counted together: the number of
/// series stays fixed, and the first error of a kind is an increase.
pub(crate) const COUNTED: [u32; 20] =
    [13, 31, 43, 45, 48, 62, 63, 64, 74, 79, 92, 94, 95, 109, 119, 120, 140, 154, 171, 172];

/// The XID of a number, if it is in the table.
pub(crate) fn find(number: u32) -> Option<Xid> {
    let row = TABLE.iter().find(|(numbers, ..)| numbers.contains(&number));
    row.map(|(_, severity, meaning)| Xid { severity: *severity, meaning })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_row() {
        let mut numbers: Vec<u32> = TABLE.iter().flat_map(|(numbers, ..)| *numbers).copied().collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }

    /// Numbers that the catalogue and its archive call unused or reserved.
    const UNUSED: [u32; 12] = [5, 10, 15, 17, 23, 49, 50, 51, 52, 53, 55, 81];

    #[test]
    fn every_number_of_the_catalogue_is_known() {
        let reserved = [87, 90, 91];
        let missing: Vec<u32> = (1..=172)
            .filter(|number| {
                find(*number).is_none() && !UNUSED.contains(number) && !reserved.contains(number)
            })
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn an_error_of_a_program_is_a_notice_and_a_lost_gpu_has_failed() {
        let severity = |number| find(number).map(|xid| xid.severity);
        for number in [13, 31, 43, 45, 68, 109] {
            assert_eq!(severity(number), Some(Notice), "the device plugin ignores {number}");
        }
        assert_eq!((severity(79), severity(48)), (Some(Failed), Some(Failed)));
        assert_eq!(severity(9999), None);
    }
}
