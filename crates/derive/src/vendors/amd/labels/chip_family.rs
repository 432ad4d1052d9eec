//! The chip families of amdgpu's user-space interface (`AMDGPU_FAMILY_*` of `amdgpu_drm.h`).

/// Chip families, and the instruction sets of their chips.
///
/// Sources: the family of a graphics version, `amdgpu_discovery.c` and, for chips before Vega, `amdgpu_device.c` of the
/// kernel; the instruction set of a graphics version, `kfd_device.c` and LLVM's AMDGPU user guide.
const FAMILIES: [(&str, &[&str]); 16] = [
    ("SI", &["gfx600", "gfx601", "gfx602"]),
    ("CI", &["gfx701", "gfx702", "gfx704"]),
    ("KV", &["gfx700", "gfx703", "gfx705"]),
    ("VI", &["gfx802", "gfx803"]),
    ("CZ", &["gfx801", "gfx810"]),
    ("AI", &["gfx900", "gfx904", "gfx906", "gfx908", "gfx90a", "gfx940", "gfx941", "gfx942", "gfx950"]),
    ("RV", &["gfx902", "gfx909", "gfx90c"]),
    ("NV", &["gfx1010", "gfx1011", "gfx1012", "gfx1013", "gfx1030", "gfx1031", "gfx1032", "gfx1034"]),
    ("VGH", &["gfx1033"]),
    ("YC", &["gfx1035"]),
    ("GC_10_3_6", &["gfx1036"]),
    ("GC_10_3_7", &["gfx1037"]),
    ("GC_11_0_0", &["gfx1100", "gfx1101", "gfx1102"]),
    ("GC_11_0_1", &["gfx1103"]),
    ("GC_11_5_0", &["gfx1150", "gfx1151", "gfx1152", "gfx1153"]),
    ("GC_12_0_0", &["gfx1200", "gfx1201"]),
];

/// The chip family of an instruction set.
pub(super) fn of_instruction_set(compute: &str) -> Option<&'static str> {
    FAMILIES.into_iter().find(|(_, computes)| computes.contains(&compute)).map(|(family, _)| family)
}
