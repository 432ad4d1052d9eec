//! The error records that amdgpu keeps in a ring: UEFI Common Platform Error Records (UEFI specification, appendix N; Linux
//! `drivers/gpu/drm/amd/include/amd_cper.h` and `amdgpu/amdgpu_ring.c`, from 6.15 on).
//!
//! `amdgpu_ring_cper` of debugfs has the three words of the ring header, then the records from the oldest to the newest.
//! Numbers are little-endian. Only the header of a record is read here; its sections are not decoded.

/// The ring header: read pointer, write pointer, and the write pointer again.
const RING_HEADER: usize = 12;
const RECORD_HEADER: usize = 128;
const SIGNATURE: &[u8] = b"CPER";
const SIGNATURE_END: u32 = 0xffff_ffff;

/// The header of a record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CperRecord {
    /// The severity of the error.
    pub severity: CperSeverity,
    /// Time stamp and record id: unique for the device.
    pub identity: [u8; 16],
}

/// The severity of an error.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CperSeverity {
    /// It could not be corrected, and work continues.
    Recoverable,
    /// Work cannot continue.
    Fatal,
    /// It was corrected.
    Corrected,
    /// A number that this program does not know.
    Other,
}

/// The records of the ring. Other bytes between them are skipped: the oldest record may be partly overwritten.
///
/// # Errors
/// When it is shorter than the ring header.
pub fn parse(ring: &[u8]) -> Result<Vec<CperRecord>, &'static str> {
    if ring.len() < RING_HEADER {
        return Err("shorter than the three words of the ring header");
    }
    let record_at = |(start, _): (usize, usize)| {
        let header = &ring[start..];
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(header.get(24..32)?);
        identity[8..].copy_from_slice(header.get(96..104)?);
        let severity = match u32_at(header, 12)? {
            0 => CperSeverity::Recoverable,
            1 => CperSeverity::Fatal,
            2 => CperSeverity::Corrected,
            _ => CperSeverity::Other,
        };
        Some(CperRecord { severity, identity })
    };
    Ok(positions(ring).filter_map(record_at).collect())
}

/// The same ring without anything that identifies a machine: the header of each record stays, without the platform id, and all
/// else is zeroed.
pub fn blank(ring: &[u8]) -> Vec<u8> {
    let mut blank = vec![0; ring.len()];
    let head = RING_HEADER.min(ring.len());
    blank[..head].copy_from_slice(&ring[..head]);
    for (start, _) in positions(ring) {
        for field in [0..32, 64..104] {
            let field = start + field.start..start + field.end;
            blank[field.clone()].copy_from_slice(&ring[field]);
        }
    }
    blank
}

/// The offset and length of each record with a complete header.
fn positions(ring: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut next = RING_HEADER;
    std::iter::from_fn(move || {
        loop {
            let header = ring.get(next..next + RECORD_HEADER)?;
            let length = u32_at(header, 20).map_or(0, |length| length as usize);
            let start = next;
            let is_record = header.starts_with(SIGNATURE)
                && u32_at(header, 6) == Some(SIGNATURE_END)
                && length >= RECORD_HEADER;
            if is_record {
                next = start.saturating_add(length).next_multiple_of(4);
                return Some((start, length));
            }
            next += 4;
        }
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record with a severity and an id, and a section that names a board.
    fn record(severity: u32, number: u8) -> Vec<u8> {
        let mut record = vec![0; 200];
        record[..4].copy_from_slice(SIGNATURE);
        record[6..10].copy_from_slice(&SIGNATURE_END.to_le_bytes());
        record[12..16].copy_from_slice(&severity.to_le_bytes());
        record[20..24].copy_from_slice(&200_u32.to_le_bytes());
        record[24] = 59;
        record[96..99].copy_from_slice(&[b'0', b':', b'0' + number]);
        record[160..170].copy_from_slice(b"SERIAL-123");
        record
    }

    fn ring(records: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; RING_HEADER]].iter().chain(records).flatten().copied().collect()
    }

    #[test]
    fn records_have_an_identity_and_a_severity() {
        let records =
            parse(&ring(&[record(1, 1), record(0, 2), record(2, 3), record(9, 4)])).expect("a ring");
        let severities: Vec<CperSeverity> = records.iter().map(|record| record.severity).collect();
        assert_eq!(
            severities,
            [CperSeverity::Fatal, CperSeverity::Recoverable, CperSeverity::Corrected, CperSeverity::Other]
        );
        assert_ne!(records[0].identity, records[1].identity);
        assert_eq!(parse(&ring(&[])), Ok(Vec::new()));
        assert!(parse(&[0; 11]).is_err());
    }

    #[test]
    fn a_partly_overwritten_or_truncated_record_is_skipped() {
        let overwritten = record(1, 1)[40..].to_vec();
        let truncated = record(1, 3)[..100].to_vec();
        assert_eq!(parse(&ring(&[overwritten, record(2, 2), truncated])).expect("a ring").len(), 1);
    }

    #[test]
    fn a_blank_ring_has_the_same_records_and_no_serial_number() {
        let full = ring(&[record(1, 1), record(2, 2)]);
        let blank = blank(&full);
        assert_eq!(parse(&blank), parse(&full));
        assert!(!blank.windows(6).any(|bytes| bytes == b"SERIAL"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            prop_assert_eq!(blank(&bytes).len(), bytes.len());
        }

        #[test]
        fn no_length_panics(length in any::<u32>()) {
            let mut record = record(1, 1);
            record[20..24].copy_from_slice(&length.to_le_bytes());
            let _ = parse(&ring(&[record.clone(), record]));
        }
    }
}
