//! Splits what a process writes into lines, each of bounded length.

/// The longest line. A report of the largest host known has half a megabyte.
pub(super) const MAX_LINE_BYTES: usize = 4 << 20;
/// The buffer that is kept between lines.
const KEPT_BYTES: usize = 64 << 10;

/// Collects the bytes of a line until it is complete.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
}

/// A line is longer than the limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LineTooLong;

impl LineBuffer {
    /// Takes in what was read, and calls `line` for each line that it completes, without the newline.
    ///
    /// # Errors
    /// When a line is longer than `max_bytes`.
    pub(super) fn push(
        &mut self,
        mut read: &[u8],
        max_bytes: usize,
        mut line: impl FnMut(&[u8]),
    ) -> Result<(), LineTooLong> {
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = read.split_at(end);
            if self.bytes.len() + head.len() > max_bytes {
                return Err(LineTooLong);
            }
            if self.bytes.is_empty() {
                line(head);
            } else {
                self.bytes.extend_from_slice(head);
                line(&self.bytes);
                self.bytes.clear();
                self.bytes.shrink_to(KEPT_BYTES);
            }
            read = &rest[1..];
        }
        if self.bytes.len() + read.len() > max_bytes {
            return Err(LineTooLong);
        }
        self.bytes.extend_from_slice(read);
        Ok(())
    }

    /// The line that is not complete yet; forgotten.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]], max_bytes: usize) -> (Vec<Vec<u8>>, Result<(), LineTooLong>) {
        let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
        let push = |chunk: &&[u8]| buffer.push(chunk, max_bytes, |line| lines.push(line.to_vec()));
        let result = chunks.iter().try_for_each(push);
        (lines, result)
    }

    #[test]
    fn lines_are_split_wherever_the_reads_end() {
        let (whole, result) = lines(&[b"a\nb", b"c", b"\n\nd"], 2);
        assert_eq!((whole, result), (vec![b"a".to_vec(), b"bc".to_vec(), vec![]], Ok(())));
    }

    #[test]
    fn a_line_beyond_the_limit_is_an_error_with_and_without_its_end() {
        for chunks in [&[b"ab" as &[u8], b"c"][..], &[b"abc"], &[b"abc\n"], &[b"ab", b"c\n"]] {
            assert_eq!(lines(chunks, 2), (vec![], Err(LineTooLong)), "{chunks:?}");
        }
    }
}
