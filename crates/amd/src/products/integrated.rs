//! GPUs that are part of a processor.
//!
//! Sources: the public PCI id list for ids, chips and names, LLVM's AMDGPU user guide for instruction sets; names by revision from `amdgpu.ids` of libdrm.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        0x1114,
        "AMD Radeon Graphics (Krackan Point)",
        "Radeon-Graphics-Krackan-Point",
        "rdna3.5",
        "gfx1152",
    )
    .integrated(),
    Row::new(0x1114, "AMD Radeon 860M Graphics", "Radeon-860M", "rdna3.5", "gfx1152")
        .revisions(&[0xc2, 0xd2, 0xe2, 0xe4, 0xe9, 0xed, 0xf2, 0xf9, 0xfc])
        .integrated(),
    Row::new(0x1114, "AMD Radeon 840M Graphics", "Radeon-840M", "rdna3.5", "gfx1152")
        .revisions(&[0xc3, 0xd3, 0xe5, 0xea, 0xee, 0xf3, 0xfa, 0xfd])
        .integrated(),
    Row::new(0x1304, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1305, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1306, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1307, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1309, "AMD Radeon R6 Graphics", "Radeon-R6-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130a, "AMD Radeon R6 Graphics", "Radeon-R6-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130b, "AMD Radeon R4 Graphics", "Radeon-R4-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130c, "AMD Radeon R7 Graphics", "Radeon-R7-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130d, "AMD Radeon R6 Graphics", "Radeon-R6-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130e, "AMD Radeon R5 Graphics", "Radeon-R5-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x130f, "AMD Radeon R7 Graphics", "Radeon-R7-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x1310, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1311, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1312, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1313, "AMD Radeon R7 Graphics", "Radeon-R7-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x1315, "AMD Radeon R5 Graphics", "Radeon-R5-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x1316, "AMD Radeon R5 Graphics", "Radeon-R5-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x1317, "AMD Radeon Graphics (Kaveri)", "Radeon-Graphics-Kaveri", "gcn2", "gfx700").integrated(),
    Row::new(0x1318, "AMD Radeon R5 Graphics", "Radeon-R5-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x131b, "AMD Radeon R4 Graphics", "Radeon-R4-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x131c, "AMD Radeon R7 Graphics", "Radeon-R7-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x131d, "AMD Radeon R6 Graphics", "Radeon-R6-Graphics", "gcn2", "gfx700").integrated(),
    Row::new(0x13c0, "AMD Radeon Graphics", "Radeon-Graphics", "rdna2", "gfx1036").integrated(),
    Row::new(0x1506, "AMD Radeon Graphics (Mendocino)", "Radeon-Graphics-Mendocino", "rdna2", "gfx1037")
        .integrated(),
    Row::new(
        0x150e,
        "AMD Radeon Graphics (Strix Point)",
        "Radeon-Graphics-Strix-Point",
        "rdna3.5",
        "gfx1150",
    )
    .integrated(),
    Row::new(0x150e, "AMD Radeon 890M Graphics", "Radeon-890M", "rdna3.5", "gfx1150")
        .revisions(&[0xc1, 0xc5, 0xc6, 0xc7, 0xd1, 0xd3, 0xe1, 0xe3, 0xe4, 0xf1, 0xf3])
        .integrated(),
    Row::new(0x150e, "AMD Radeon 880M Graphics", "Radeon-880M", "rdna3.5", "gfx1150")
        .revisions(&[0xc4, 0xd2])
        .integrated(),
    Row::new(0x1586, "AMD Radeon Graphics (Strix Halo)", "Radeon-Graphics-Strix-Halo", "rdna3.5", "gfx1151")
        .integrated(),
    Row::new(0x1586, "AMD Radeon 8060S Graphics", "Radeon-8060S", "rdna3.5", "gfx1151")
        .revisions(&[0xc1, 0xc3, 0xc6, 0xd1])
        .integrated(),
    Row::new(0x1586, "AMD Radeon 8050S Graphics", "Radeon-8050S", "rdna3.5", "gfx1151")
        .revisions(&[0xc2, 0xc4, 0xd2, 0xd4])
        .integrated(),
    Row::new(0x1586, "AMD Radeon 8040S Graphics", "Radeon-8040S", "rdna3.5", "gfx1151")
        .revisions(&[0xd5])
        .integrated(),
    Row::new(0x15bf, "AMD Radeon Graphics (Phoenix)", "Radeon-Graphics-Phoenix", "rdna3", "gfx1103")
        .integrated(),
    Row::new(0x15c8, "AMD Radeon Graphics (Phoenix)", "Radeon-Graphics-Phoenix", "rdna3", "gfx1103")
        .integrated(),
    Row::new(0x15d8, "AMD Radeon Vega Series", "Radeon-Vega-Series", "gcn5", "gfx902").integrated(),
    Row::new(0x15dd, "AMD Radeon Vega Series", "Radeon-Vega-Series", "gcn5", "gfx902").integrated(),
    Row::new(0x15e7, "AMD Radeon Graphics (Barcelo)", "Radeon-Graphics-Barcelo", "gcn5", "gfx90c")
        .integrated(),
    Row::new(0x1636, "AMD Radeon Vega Series", "Radeon-Vega-Series", "gcn5", "gfx90c").integrated(),
    Row::new(0x1638, "AMD Radeon Vega Series", "Radeon-Vega-Series", "gcn5", "gfx90c").integrated(),
    Row::new(0x163f, "AMD Custom GPU 0405", "Custom-GPU-0405", "rdna2", "gfx1033").integrated(),
    Row::new(0x164c, "AMD Radeon Graphics (Lucienne)", "Radeon-Graphics-Lucienne", "gcn5", "gfx90c")
        .integrated(),
    Row::new(0x164d, "AMD Radeon Graphics (Rembrandt)", "Radeon-Graphics-Rembrandt", "rdna2", "gfx1035")
        .integrated(),
    Row::new(0x164e, "AMD Radeon Graphics (Raphael)", "Radeon-Graphics-Raphael", "rdna2", "gfx1036")
        .integrated(),
    Row::new(0x164f, "AMD Radeon Graphics (Phoenix)", "Radeon-Graphics-Phoenix", "rdna3", "gfx1103")
        .integrated(),
    Row::new(0x1681, "AMD Radeon Graphics (Rembrandt)", "Radeon-Graphics-Rembrandt", "rdna2", "gfx1035")
        .integrated(),
    Row::new(0x1681, "AMD Radeon 680M", "Radeon-680M", "rdna2", "gfx1035")
        .revisions(&[0x06, 0x0a, 0xc7, 0xc8])
        .integrated(),
    Row::new(0x1681, "AMD Radeon 660M", "Radeon-660M", "rdna2", "gfx1035")
        .revisions(&[0x07, 0x0b, 0xc9])
        .integrated(),
    Row::new(0x1900, "AMD Radeon Graphics (HawkPoint)", "Radeon-Graphics-HawkPoint", "rdna3", "gfx1103")
        .integrated(),
    Row::new(0x1901, "AMD Radeon Graphics (HawkPoint)", "Radeon-Graphics-HawkPoint", "rdna3", "gfx1103")
        .integrated(),
    Row::new(
        0x1902,
        "AMD Radeon Graphics (Krackan Point 2)",
        "Radeon-Graphics-Krackan-Point-2",
        "rdna3.5",
        "gfx1153",
    )
    .integrated(),
    Row::new(0x1902, "AMD Radeon 840M Graphics", "Radeon-840M", "rdna3.5", "gfx1153")
        .revisions(&[0xc0, 0xc1, 0xc3, 0xc7, 0xc8, 0xca, 0xd1, 0xd3, 0xd7, 0xd8])
        .integrated(),
    Row::new(0x1902, "AMD Radeon 820M Graphics", "Radeon-820M", "rdna3.5", "gfx1153")
        .revisions(&[0xc2, 0xc6, 0xc9])
        .integrated(),
    Row::new(0x9830, "AMD Radeon HD 8400", "Radeon-HD-8400", "gcn2", "gfx703").integrated(),
    Row::new(0x9831, "AMD Radeon HD 8400E", "Radeon-HD-8400E", "gcn2", "gfx703").integrated(),
    Row::new(0x9832, "AMD Radeon HD 8330", "Radeon-HD-8330", "gcn2", "gfx703").integrated(),
    Row::new(0x9833, "AMD Radeon HD 8330E", "Radeon-HD-8330E", "gcn2", "gfx703").integrated(),
    Row::new(0x9834, "AMD Radeon HD 8210", "Radeon-HD-8210", "gcn2", "gfx703").integrated(),
    Row::new(0x9835, "AMD Radeon HD 8310E", "Radeon-HD-8310E", "gcn2", "gfx703").integrated(),
    Row::new(0x9836, "AMD Radeon HD 8280", "Radeon-HD-8280", "gcn2", "gfx703").integrated(),
    Row::new(0x9837, "AMD Radeon HD 8280E", "Radeon-HD-8280E", "gcn2", "gfx703").integrated(),
    Row::new(0x9838, "AMD Radeon HD 8240", "Radeon-HD-8240", "gcn2", "gfx703").integrated(),
    Row::new(0x9839, "AMD Radeon HD 8180", "Radeon-HD-8180", "gcn2", "gfx703").integrated(),
    Row::new(0x983d, "AMD Radeon HD 8250", "Radeon-HD-8250", "gcn2", "gfx703").integrated(),
    Row::new(0x9850, "AMD Radeon R2 Graphics", "Radeon-R2-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9851, "AMD Radeon R4 Graphics", "Radeon-R4-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9852, "AMD Radeon R2 Graphics", "Radeon-R2-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9853, "AMD Radeon R2 Graphics", "Radeon-R2-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9854, "AMD Radeon R3E Graphics", "Radeon-R3E-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9855, "AMD Radeon R6 Graphics", "Radeon-R6-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(0x9856, "AMD Radeon R1E Graphics", "Radeon-R1E-Graphics", "gcn2", "gfx703").integrated(),
    Row::new(
        0x9857,
        "AMD Radeon APU XX-2200M with R2 Graphics",
        "Radeon-APU-XX-2200M-with-R2-Graphics",
        "gcn2",
        "gfx703",
    )
    .integrated(),
    Row::new(0x9858, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x9859, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985a, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985b, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985c, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985d, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985e, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x985f, "AMD Radeon Graphics (Mullins)", "Radeon-Graphics-Mullins", "gcn2", "gfx703")
        .integrated(),
    Row::new(0x9874, "AMD Radeon R5 Graphics", "Radeon-R5-Graphics", "gcn3", "gfx801").integrated(),
    Row::new(0x98e4, "AMD Radeon R2 Graphics", "Radeon-R2-Graphics", "gcn3", "gfx810").integrated(),
];
