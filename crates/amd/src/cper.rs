//! Records of errors that amdgpu keeps in a ring: UEFI's Common Platform Error Records (UEFI specification, appendix N; Linux
//! `drivers/gpu/drm/amd/include/amd_cper.h` and `amdgpu/amdgpu_ring.c`, from 6.15 on).
//!
//! `amdgpu_ring_cper` of debugfs has three words of the ring's own, then the records from the oldest to the newest. Numbers
//! are little-endian. Only a record's header is read here: what its sections say is AMD's library's to decode.

/// Words of the ring before the first record: where it is read, where it is written, and that again.
const RING_HEADER: usize = 12;
const RECORD_HEADER: usize = 128;
const SIGNATURE: &[u8] = b"CPER";
const SIGNATURE_END: u32 = 0xffff_ffff;

/// What the header of a record says.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Record {
    /// How grave it is.
    pub severity: Severity,
    /// When it was written, and its number: no two of a device have the same.
    pub identity: [u8; 16],
}

/// How grave an error is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// It could not be corrected, and work goes on.
    Recoverable,
    /// Work cannot go on.
    Fatal,
    /// It was corrected.
    Corrected,
    /// Another number.
    Other,
}

/// The records of the ring. Bytes between them that are none are skipped: the oldest may be overwritten in part.
///
/// # Errors
/// When it is shorter than the ring's own words.
pub fn parse(ring: &[u8]) -> Result<Vec<Record>, &'static str> {
    if ring.len() < RING_HEADER {
        return Err("shorter than the three words with which the ring begins");
    }
    let of_place = |(start, _): (usize, usize)| {
        let header = &ring[start..];
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(header.get(24..32)?);
        identity[8..].copy_from_slice(header.get(96..104)?);
        let severity = match word(header, 12)? {
            0 => Severity::Recoverable,
            1 => Severity::Fatal,
            2 => Severity::Corrected,
            _ => Severity::Other,
        };
        Some(Record { severity, identity })
    };
    Ok(places(ring).filter_map(of_place).collect())
}

/// The same ring without what names a machine: of each record the header stays, without the platform's id, and all else
/// is zeros.
pub fn blank(ring: &[u8]) -> Vec<u8> {
    let mut blank = vec![0; ring.len()];
    let head = RING_HEADER.min(ring.len());
    blank[..head].copy_from_slice(&ring[..head]);
    for (start, _) in places(ring) {
        for kept in [0..32, 64..104] {
            let kept = start + kept.start..start + kept.end;
            blank[kept.clone()].copy_from_slice(&ring[kept]);
        }
    }
    blank
}

/// Where records with a whole header begin, and how long they are.
fn places(ring: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut next = RING_HEADER;
    std::iter::from_fn(move || {
        loop {
            let header = ring.get(next..next + RECORD_HEADER)?;
            let length = word(header, 20).map_or(0, |length| length as usize);
            let start = next;
            let is_record = header.starts_with(SIGNATURE)
                && word(header, 6) == Some(SIGNATURE_END)
                && length >= RECORD_HEADER;
            if is_record {
                next = start.saturating_add(length).next_multiple_of(4);
                return Some((start, length));
            }
            next += 4;
        }
    })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record of a severity and a number, with a section that names a board.
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
    fn records_are_told_apart_and_by_gravity() {
        let told = parse(&ring(&[record(1, 1), record(0, 2), record(2, 3), record(9, 4)])).expect("a ring");
        let severities: Vec<Severity> = told.iter().map(|record| record.severity).collect();
        assert_eq!(
            severities,
            [Severity::Fatal, Severity::Recoverable, Severity::Corrected, Severity::Other]
        );
        assert_ne!(told[0].identity, told[1].identity);
        assert_eq!(parse(&ring(&[])), Ok(Vec::new()));
        assert!(parse(&[0; 11]).is_err());
    }

    #[test]
    fn a_record_that_is_overwritten_in_part_or_cut_off_costs_no_other() {
        let rest = record(1, 1)[40..].to_vec();
        let cut = record(1, 3)[..100].to_vec();
        assert_eq!(parse(&ring(&[rest, record(2, 2), cut])).expect("a ring").len(), 1);
    }

    #[test]
    fn a_blank_ring_tells_the_same_and_names_nobody() {
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
            let mut odd = record(1, 1);
            odd[20..24].copy_from_slice(&length.to_le_bytes());
            let _ = parse(&ring(&[odd.clone(), odd]));
        }
    }
}
