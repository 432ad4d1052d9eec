//! Structs of the kernel, filled from the values of a recording.

/// Bytes that are filled at offsets.
#[derive(Default)]
pub(crate) struct FilledStruct(pub(crate) Vec<u8>);

impl FilledStruct {
    /// Fills bytes, with zeros between them and what is before.
    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) -> &mut FilledStruct {
        let end = offset + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[offset..end].copy_from_slice(bytes);
        self
    }
}
