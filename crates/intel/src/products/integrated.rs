//! The name and generation of each PCI id of Intel's integrated GPUs.
//!
//! Ids and generations are those of the kernel (`include/drm/intel/pciids.h` and the graphics versions in i915 and
//! xe); names those of Mesa (`include/pci_ids`), of Intel's compute runtime (`devices_base.inl`) and of the public
//! PCI id list. Where Intel sells many products under one name, the platform in parentheses distinguishes them. The ids
//! 0be0, 0be1 and 0be5 are left out: the kernel lists them for both Cedarview and Ponte Vecchio.

/// The GPUs of one generation.
struct IntegratedGeneration {
    architecture: &'static str,
    products: &'static [(&'static str, &'static [u16])],
}

/// Name and architecture of an integrated GPU.
pub(super) fn find(device_id: u16) -> Option<(&'static str, &'static str)> {
    GENERATIONS.iter().find_map(|generation| {
        let (name, _) = generation.products.iter().find(|(_, ids)| ids.contains(&device_id))?;
        Some((*name, generation.architecture))
    })
}

const GENERATIONS: &[IntegratedGeneration] = &[
    IntegratedGeneration {
        architecture: "gen2",
        products: &[
            ("Intel 815 Graphics", &[0x1132]),
            ("Intel 810 Graphics", &[0x7121, 0x7123, 0x7125]),
            ("Intel 830 to 865 Graphics", &[0x3577, 0x2562, 0x3582, 0x358e, 0x2572]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen3",
        products: &[
            ("Intel GMA 900", &[0x2582, 0x258a, 0x2592]),
            ("Intel GMA 950", &[0x2772, 0x27a2, 0x27ae]),
            ("Intel GMA 3100", &[0x29b2, 0x29c2, 0x29d2]),
            ("Intel GMA 3150", &[0xa001, 0xa011]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen4",
        products: &[
            ("Intel GMA 3000", &[0x2972, 0x2982, 0x2992, 0x29a2]),
            ("Intel GMA X3100", &[0x2a02, 0x2a12]),
            ("Intel GMA 4500", &[0x2a42, 0x2e02, 0x2e12, 0x2e22, 0x2e32, 0x2e42, 0x2e92]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen5",
        products: &[("Intel HD Graphics (Ironlake)", &[0x0042, 0x0046])],
    },
    IntegratedGeneration {
        architecture: "gen6",
        products: &[
            ("Intel HD Graphics 2000", &[0x0102, 0x0106, 0x010a]),
            ("Intel HD Graphics 3000", &[0x0112, 0x0116, 0x0122, 0x0126]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen7",
        products: &[
            ("Intel HD Graphics 2500", &[0x0152, 0x0156, 0x015a]),
            ("Intel HD Graphics 4000", &[0x0162, 0x0166]),
            ("Intel HD Graphics P4000", &[0x016a]),
            ("Intel HD Graphics (Bay Trail)", &[0x0f30, 0x0f31, 0x0f32, 0x0f33]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen7.5",
        products: &[(
            "Intel HD Graphics (Haswell)",
            &[
                0x0a02, 0x0a06, 0x0a0a, 0x0a0b, 0x0a0e, 0x0a12, 0x0a16, 0x0a1a, 0x0a1b, 0x0a1e, 0x0a22,
                0x0a26, 0x0a2a, 0x0a2b, 0x0a2e, 0x0402, 0x0406, 0x040a, 0x040b, 0x040e, 0x0412, 0x0416,
                0x041a, 0x041b, 0x041e, 0x0422, 0x0426, 0x042a, 0x042b, 0x042e, 0x0c02, 0x0c06, 0x0c0a,
                0x0c0b, 0x0c0e, 0x0c12, 0x0c16, 0x0c1a, 0x0c1b, 0x0c1e, 0x0c22, 0x0c26, 0x0c2a, 0x0c2b,
                0x0c2e, 0x0d02, 0x0d06, 0x0d0a, 0x0d0b, 0x0d0e, 0x0d12, 0x0d16, 0x0d1a, 0x0d1b, 0x0d1e,
                0x0d22, 0x0d26, 0x0d2a, 0x0d2b, 0x0d2e,
            ],
        )],
    },
    IntegratedGeneration {
        architecture: "gen8",
        products: &[
            (
                "Intel HD Graphics (Broadwell)",
                &[
                    0x1602, 0x1606, 0x160a, 0x160b, 0x160d, 0x160e, 0x161b, 0x161d, 0x162d, 0x162e, 0x1632,
                    0x1636, 0x163a, 0x163b, 0x163d, 0x163e,
                ],
            ),
            ("Intel HD Graphics 5300", &[0x161e]),
            ("Intel HD Graphics 5500", &[0x1616]),
            ("Intel HD Graphics 5600", &[0x1612]),
            ("Intel HD Graphics P5700", &[0x161a]),
            ("Intel HD Graphics 6000", &[0x1626]),
            ("Intel Iris Graphics 6100", &[0x162b]),
            ("Intel Iris Pro Graphics 6200", &[0x1622]),
            ("Intel Iris Pro Graphics P6300", &[0x162a]),
            ("Intel HD Graphics (Cherry Trail)", &[0x22b0, 0x22b1, 0x22b2, 0x22b3]),
        ],
    },
    IntegratedGeneration {
        architecture: "gen9",
        products: &[
            ("Intel HD Graphics (Skylake)", &[0x190a, 0x190e, 0x1913, 0x1915, 0x1917, 0x191a, 0x192a]),
            ("Intel HD Graphics 510", &[0x1902, 0x1906, 0x190b]),
            ("Intel HD Graphics 515", &[0x191e]),
            ("Intel HD Graphics 520", &[0x1916, 0x1921]),
            ("Intel HD Graphics 530", &[0x1912, 0x191b]),
            ("Intel HD Graphics P530", &[0x191d]),
            ("Intel HD Graphics 535", &[0x1923]),
            ("Intel Iris Graphics 540", &[0x1926]),
            ("Intel Iris Graphics 550", &[0x1927]),
            ("Intel Iris Graphics 555", &[0x192b]),
            ("Intel Iris Graphics P555", &[0x192d]),
            ("Intel Iris Pro Graphics 580", &[0x1932, 0x193b]),
            ("Intel Iris Pro Graphics P580", &[0x193a, 0x193d]),
            ("Intel HD Graphics (Broxton)", &[0x0a84, 0x1a84, 0x1a85]),
            ("Intel HD Graphics 500", &[0x5a85]),
            ("Intel HD Graphics 505", &[0x5a84]),
            ("Intel UHD Graphics 600", &[0x3185]),
            ("Intel UHD Graphics 605", &[0x3184]),
            ("Intel HD Graphics (Kaby Lake)", &[0x5908, 0x590a, 0x590e, 0x5913, 0x5915, 0x593b]),
            ("Intel HD Graphics 610", &[0x5902, 0x5906, 0x590b]),
            ("Intel HD Graphics 615", &[0x591e]),
            ("Intel HD Graphics 620", &[0x5916, 0x5921]),
            ("Intel HD Graphics 630", &[0x5912, 0x591b]),
            ("Intel HD Graphics P630", &[0x591a, 0x591d]),
            ("Intel HD Graphics 635", &[0x5923]),
            ("Intel Iris Plus Graphics 640", &[0x5926]),
            ("Intel Iris Plus Graphics 650", &[0x5927]),
            ("Intel UHD Graphics 615", &[0x591c]),
            ("Intel UHD Graphics 617", &[0x87c0, 0x87ca]),
            ("Intel UHD Graphics 610", &[0x3e90, 0x3e93, 0x3e99, 0x3e9c, 0x3ea1, 0x9ba5, 0x9ba8]),
            ("Intel UHD Graphics 620", &[0x5917, 0x3ea0, 0x3ea9]),
            ("Intel UHD Graphics 630", &[0x3e91, 0x3e92, 0x3e98, 0x3e9b, 0x9bc5, 0x9bc8]),
            ("Intel UHD Graphics P630", &[0x3e94, 0x3e96, 0x3e9a, 0x9bc6, 0x9be6, 0x9bf6]),
            ("Intel Iris Plus Graphics 645", &[0x3ea6]),
            ("Intel Iris Plus Graphics 655", &[0x3ea5, 0x3ea8]),
            ("Intel UHD Graphics (Coffee Lake)", &[0x3ea2, 0x3ea3, 0x3ea4, 0x3ea7]),
            (
                "Intel UHD Graphics (Comet Lake)",
                &[0x9b21, 0x9b41, 0x9ba2, 0x9ba4, 0x9baa, 0x9bac, 0x9bc2, 0x9bc4, 0x9bca, 0x9bcc],
            ),
        ],
    },
    IntegratedGeneration {
        architecture: "gen10",
        products: &[(
            "Intel UHD Graphics (Cannon Lake)",
            &[
                0x5a40, 0x5a41, 0x5a42, 0x5a44, 0x5a49, 0x5a4a, 0x5a4c, 0x5a50, 0x5a51, 0x5a52, 0x5a54,
                0x5a59, 0x5a5a, 0x5a5c,
            ],
        )],
    },
    IntegratedGeneration {
        architecture: "gen11",
        products: &[
            ("Intel Iris Plus Graphics", &[0x8a51, 0x8a52, 0x8a53, 0x8a54, 0x8a5a, 0x8a5c]),
            (
                "Intel UHD Graphics (Ice Lake)",
                &[0x8a50, 0x8a56, 0x8a57, 0x8a58, 0x8a59, 0x8a5b, 0x8a5d, 0x8a70, 0x8a71],
            ),
            ("Intel UHD Graphics (Elkhart Lake)", &[0x4541, 0x4551, 0x4555, 0x4557, 0x4570, 0x4571]),
            ("Intel UHD Graphics (Jasper Lake)", &[0x4e51, 0x4e55, 0x4e57, 0x4e61, 0x4e71]),
        ],
    },
    IntegratedGeneration {
        architecture: "xe-lp",
        products: &[
            (
                "Intel UHD Graphics (Tiger Lake)",
                &[0x9a59, 0x9a60, 0x9a68, 0x9a70, 0x9a78, 0x9ac0, 0x9ac9, 0x9ad9, 0x9af8],
            ),
            ("Intel UHD Graphics (Rocket Lake)", &[0x4c80, 0x4c8c, 0x4c9a]),
            ("Intel UHD Graphics 710", &[0x4693]),
            ("Intel UHD Graphics 730", &[0x4c8b, 0x4682, 0x4692, 0xa782]),
            ("Intel UHD Graphics 750", &[0x4c8a]),
            ("Intel UHD Graphics P750", &[0x4c90]),
            ("Intel UHD Graphics 770", &[0x4680, 0x4690, 0xa780]),
            (
                "Intel UHD Graphics (Alder Lake)",
                &[
                    0x4688, 0x468a, 0x468b, 0x4626, 0x4628, 0x462a, 0x46a0, 0x46a1, 0x46a2, 0x46a3, 0x46b0,
                    0x46b1, 0x46b2, 0x46b3, 0x46c0, 0x46c1, 0x46c2, 0x46c3, 0x46d0, 0x46d1, 0x46d2, 0x46d3,
                    0x46d4,
                ],
            ),
            (
                "Intel UHD Graphics (Raptor Lake)",
                &[
                    0xa781, 0xa783, 0xa788, 0xa789, 0xa78a, 0xa78b, 0xa720, 0xa721, 0xa7a8, 0xa7a9, 0xa7aa,
                    0xa7ab, 0xa7ac, 0xa7ad,
                ],
            ),
            ("Intel Iris Xe Graphics", &[0x9a40, 0x9a49, 0x46a6, 0x46a8, 0x46aa, 0xa7a0, 0xa7a1]),
        ],
    },
    IntegratedGeneration {
        architecture: "xe-lpg",
        products: &[
            ("Intel Graphics (Meteor Lake)", &[0x7d40, 0x7d45, 0x7d60, 0x7dd5]),
            ("Intel Arc Graphics (Meteor Lake)", &[0x7d55]),
            ("Intel Graphics (Arrow Lake)", &[0x7d41, 0x7d67, 0x7dd1, 0xb640]),
            ("Intel Arc Graphics (Arrow Lake)", &[0x7d51]),
        ],
    },
    IntegratedGeneration {
        architecture: "xe2-lpg",
        products: &[
            ("Intel Graphics (Lunar Lake)", &[0x6420, 0x64b0]),
            ("Intel Arc Graphics (Lunar Lake)", &[0x64a0]),
        ],
    },
    IntegratedGeneration {
        architecture: "xe3-lpg",
        products: &[
            ("Intel Arc B390", &[0xb080, 0xb082, 0xb084, 0xb086]),
            ("Intel Arc B370", &[0xb081, 0xb083, 0xb085, 0xb087]),
            ("Intel Graphics (Panther Lake)", &[0xb08f, 0xb090, 0xb0a0, 0xb0b0]),
            ("Intel Graphics (Wildcat Lake)", &[0xfd80, 0xfd81]),
            (
                "Intel Graphics (Nova Lake-S)",
                &[0xd740, 0xd741, 0xd742, 0xd743, 0xd744, 0xd745, 0xd74a, 0xd74b],
            ),
        ],
    },
    IntegratedGeneration {
        architecture: "xe3p-lpg",
        products: &[(
            "Intel Graphics (Nova Lake-P)",
            &[0xd750, 0xd751, 0xd752, 0xd753, 0xd754, 0xd755, 0xd756, 0xd757, 0xd75f],
        )],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_is_listed_once() {
        let mut seen = BTreeSet::new();
        for id in GENERATIONS.iter().flat_map(|generation| generation.products).flat_map(|(_, ids)| *ids) {
            assert!(seen.insert(id), "{id:04x} is listed twice");
        }
    }
}
