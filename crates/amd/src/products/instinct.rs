//! Data-centre and workstation parts.
//!
//! Sources: `amdgpu.ids` of libdrm for ids and names, the NFD rule of AMD's GPU operator for MI350P and the virtual
//! functions, the device table of amdgpu (`amdgpu_drv.c`) for the chip, `gfx_target_version` of KFD for the instruction set.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    Row::new(0x6860, "AMD Radeon Instinct MI25", "MI25", "vega", "gfx900"),
    Row::new(0x6860, "AMD Radeon Pro V340", "V340", "vega", "gfx900").revisions(&[0x03]),
    Row::new(0x6860, "AMD Radeon Instinct MI25x2", "MI25x2", "vega", "gfx900").revisions(&[0x04]),
    Row::new(0x6860, "AMD Radeon Pro V320", "V320", "vega", "gfx900").revisions(&[0x07]),
    Row::new(0x6864, "AMD Radeon Pro V340", "V340", "vega", "gfx900"),
    Row::new(0x6864, "AMD Radeon Instinct MI25x2", "MI25x2", "vega", "gfx900").revisions(&[0x04]),
    Row::new(0x686c, "AMD Radeon Instinct MI25 MxGPU", "MI25", "vega", "gfx900").virtual_function(),
    Row::new(0x686c, "AMD Radeon Pro V340 MxGPU", "V340", "vega", "gfx900")
        .revisions(&[0x03])
        .virtual_function(),
    Row::new(0x686c, "AMD Radeon Instinct MI25x2 MxGPU", "MI25x2", "vega", "gfx900")
        .revisions(&[0x04])
        .virtual_function(),
    Row::new(0x686c, "AMD Radeon Pro V340L MxGPU", "V340L", "vega", "gfx900")
        .revisions(&[0x05])
        .virtual_function(),
    Row::new(0x66a0, "AMD Radeon Instinct MI50", "MI50", "vega", "gfx906"),
    Row::new(0x66a1, "AMD Instinct MI60 / MI50", "MI50", "vega", "gfx906"),
    Row::new(0x66a1, "AMD Radeon Pro VII", "Pro-VII", "vega", "gfx906").revisions(&[0x06]),
    Row::new(0x738c, "AMD Instinct MI100", "MI100", "cdna", "gfx908"),
    Row::new(0x738e, "AMD Instinct MI100", "MI100", "cdna", "gfx908"),
    Row::new(0x7408, "AMD Instinct MI250X", "MI250X", "cdna2", "gfx90a"),
    Row::new(0x740c, "AMD Instinct MI250X / MI250", "MI250X", "cdna2", "gfx90a"),
    Row::new(0x740f, "AMD Instinct MI210", "MI210", "cdna2", "gfx90a"),
    Row::new(0x7410, "AMD Instinct MI210 VF", "MI210", "cdna2", "gfx90a").virtual_function(),
    Row::new(0x74a0, "AMD Instinct MI300A", "MI300A", "cdna3", "gfx942"),
    Row::new(0x74a1, "AMD Instinct MI300X", "MI300X", "cdna3", "gfx942"),
    Row::new(0x74a9, "AMD Instinct MI300X HF", "MI300X", "cdna3", "gfx942"),
    Row::new(0x74b5, "AMD Instinct MI300X VF", "MI300X", "cdna3", "gfx942").virtual_function(),
    Row::new(0x74bd, "AMD Instinct MI300X HF VF", "MI300X", "cdna3", "gfx942").virtual_function(),
    Row::new(0x74a2, "AMD Instinct MI308X", "MI308X", "cdna3", "gfx942"),
    Row::new(0x74a8, "AMD Instinct MI308X HF", "MI308X", "cdna3", "gfx942"),
    Row::new(0x74b6, "AMD Instinct MI308X VF", "MI308X", "cdna3", "gfx942").virtual_function(),
    Row::new(0x74bc, "AMD Instinct MI308X HF VF", "MI308X", "cdna3", "gfx942").virtual_function(),
    Row::new(0x74a5, "AMD Instinct MI325X", "MI325X", "cdna3", "gfx942"),
    Row::new(0x74b9, "AMD Instinct MI325X VF", "MI325X", "cdna3", "gfx942").virtual_function(),
    Row::new(0x75a0, "AMD Instinct MI350X", "MI350X", "cdna4", "gfx950"),
    Row::new(0x75b0, "AMD Instinct MI350X VF", "MI350X", "cdna4", "gfx950").virtual_function(),
    Row::new(0x75a3, "AMD Instinct MI355X", "MI355X", "cdna4", "gfx950"),
    Row::new(0x75b3, "AMD Instinct MI355X VF", "MI355X", "cdna4", "gfx950").virtual_function(),
    Row::new(0x75a8, "AMD Instinct MI350P", "MI350P", "cdna4", "gfx950"),
    Row::new(0x75b8, "AMD Instinct MI350P VF", "MI350P", "cdna4", "gfx950").virtual_function(),
    Row::new(0x73a1, "AMD Radeon PRO V620", "V620", "rdna2", "gfx1030"),
    Row::new(0x73ae, "AMD Radeon PRO V620 VF", "V620", "rdna2", "gfx1030").virtual_function(),
    Row::new(0x7460, "AMD Radeon PRO V710", "V710", "rdna3", "gfx1101"),
    Row::new(0x7461, "AMD Radeon PRO V710 VF", "V710", "rdna3", "gfx1101").virtual_function(),
    Row::new(0x7448, "AMD Radeon PRO W7900", "W7900", "rdna3", "gfx1100"),
    Row::new(0x744a, "AMD Radeon PRO W7900 Dual Slot", "W7900", "rdna3", "gfx1100"),
    Row::new(0x744b, "AMD Radeon PRO W7900D", "W7900D", "rdna3", "gfx1100"),
    Row::new(0x7449, "AMD Radeon PRO W7800 48GB", "W7800", "rdna3", "gfx1100"),
    Row::new(0x745e, "AMD Radeon PRO W7800", "W7800", "rdna3", "gfx1100"),
    Row::new(0x7551, "AMD Radeon AI PRO R9700", "R9700", "rdna4", "gfx1201"),
    Row::new(0x7551, "AMD Radeon AI PRO R9700S", "R9700S", "rdna4", "gfx1201").revisions(&[0xc1]),
    Row::new(0x7551, "AMD Radeon AI PRO R9600D", "R9600D", "rdna4", "gfx1201").revisions(&[0xc8]),
];
