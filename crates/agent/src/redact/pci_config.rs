//! The configuration space of a PCI function, of which the extended part may hold a serial number: for a network card it is made
//! of its MAC address.

/// Where the extended capabilities begin.
const EXTENDED: usize = 0x100;
/// The capability with the serial number (PCI Express Base Specification, "Device Serial Number").
const SERIAL_NUMBER: u32 = 0x0003;

/// The content without the serial number.
pub(super) fn blank(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    let mut offset = EXTENDED;
    // Each is at least a word long, so that a list that loops ends.
    for _ in 0..1024 {
        let Some(header) = content.get(offset..offset + 4) else { break };
        let header = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if header & 0xffff == SERIAL_NUMBER
            && let Some(serial) = content.get_mut(offset + 4..offset + 12)
        {
            serial.fill(0);
        }
        offset = (header >> 20) as usize;
        if offset < EXTENDED {
            break;
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_number_alone_is_blanked() {
        let mut content = vec![7; 0x200];
        content[0x100..0x104].copy_from_slice(&0x1400_0001_u32.to_le_bytes());
        content[0x140..0x144].copy_from_slice(&0x1000_0003_u32.to_le_bytes());
        let blanked = blank(&content);
        assert_eq!(blanked[0x144..0x14c], [0; 8]);
        let mut expected = content.clone();
        expected[0x144..0x14c].fill(0);
        assert_eq!(blanked, expected);
        assert_eq!(blank(&content[..0x146]), content[..0x146], "a part of it");
        assert_eq!(blank(&[0; 64]), [0; 64]);
    }
}
