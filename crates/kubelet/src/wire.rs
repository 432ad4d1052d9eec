//! The protobuf wire format, read in pieces as they arrive: no message is ever held as a whole.
//!
//! Input: the shape of a message and its bytes. Output: [`WireEvent`]s. Fields that the shape does not name are skipped. What is
//! held at a time is one text of at most [`MAX_TEXT`] bytes and the ends of the messages that are open.

/// The longest text that is read: the longest name of Kubernetes is an extended resource with a prefix, 317 bytes.
pub(crate) const MAX_TEXT: usize = 512;
/// A varint has at most ten bytes.
const MAX_VARINT_BITS: u32 = 70;

/// The fields of a message that are read, by their tags.
#[derive(Debug)]
pub(crate) struct MessageShape<K: 'static> {
    pub(crate) kind: K,
    pub(crate) fields: &'static [(u64, FieldShape<K>)],
}

/// What a field is.
#[derive(Debug)]
pub(crate) enum FieldShape<K: 'static> {
    /// A message.
    Message(&'static MessageShape<K>),
    /// A string.
    Text(K),
}

/// What was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WireEvent<'t, K> {
    /// A message begins.
    Begin(K),
    /// A string; none if it is longer than [`MAX_TEXT`] or not UTF-8.
    Text(K, Option<&'t str>),
    /// The message ends that began last.
    End(K),
}

/// The bytes are no message.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the response is no valid message at byte {position}")]
pub(crate) struct WireError {
    position: u64,
}

/// Reads one message.
#[derive(Debug)]
pub(crate) struct WireReader<K: 'static> {
    position: u64,
    /// The open messages and their ends, the outermost first.
    open: Vec<(&'static MessageShape<K>, u64)>,
    step: Step<K>,
    text: Vec<u8>,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Step<K: 'static> {
    Key(Varint),
    /// A number that nothing needs.
    Number(Varint),
    Length(Option<&'static FieldShape<K>>, Varint),
    Skipped {
        end: u64,
    },
    Text {
        kind: K,
        end: u64,
    },
}

/// A varint of which some bytes were read.
#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u64,
    bits: u32,
}

impl Varint {
    /// Takes a byte; the value if it is the last one. None if the number is too long.
    fn push(self, byte: u8) -> Option<Result<u64, Varint>> {
        // Bits beyond the 64th are lost, as in every decoder of protobuf.
        let value = self.value | u64::from(byte & 0x7f).checked_shl(self.bits).unwrap_or_default();
        let bits = self.bits.checked_add(7).filter(|bits| *bits <= MAX_VARINT_BITS)?;
        Some(if byte & 0x80 == 0 { Ok(value) } else { Err(Varint { value, bits }) })
    }
}

impl<K: Copy> WireReader<K> {
    /// For a message of `length` bytes.
    pub(crate) fn new(shape: &'static MessageShape<K>, length: u64) -> WireReader<K> {
        WireReader {
            position: 0,
            open: vec![(shape, length)],
            step: Step::Key(Varint::default()),
            text: Vec::new(),
        }
    }

    /// Whether the message was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Reads the next bytes of the message. The outermost message has no `Begin`; its `End` is the last event.
    ///
    /// # Errors
    /// When they cannot belong to a message of this length.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        event: &mut impl FnMut(WireEvent<'_, K>),
    ) -> Result<(), WireError> {
        self.close(event);
        while let Some((first, rest)) = bytes.split_first() {
            let Some((shape, end)) = self.open.last().map(|(shape, end)| (*shape, *end)) else {
                return Err(self.error());
            };
            match self.step {
                Step::Skipped { end } => {
                    let (_, rest) = self.split(bytes, end);
                    bytes = rest;
                    if self.position == end {
                        self.step = Step::Key(Varint::default());
                    }
                }
                Step::Text { kind, end } => {
                    let (part, rest) = self.split(bytes, end);
                    bytes = rest;
                    let room = (MAX_TEXT + 1).saturating_sub(self.text.len());
                    self.text.extend_from_slice(part.get(..room).unwrap_or(part));
                    if self.position == end {
                        self.end_text(kind, event);
                    }
                }
                _ => {
                    bytes = rest;
                    self.position = self.position.saturating_add(1);
                    self.number(*first, shape, end, event)?;
                }
            }
            self.close(event);
        }
        Ok(())
    }

    /// A byte of a key, a length or a number.
    fn number(
        &mut self,
        byte: u8,
        shape: &'static MessageShape<K>,
        end: u64,
        event: &mut impl FnMut(WireEvent<'_, K>),
    ) -> Result<(), WireError> {
        let (Step::Key(varint) | Step::Number(varint) | Step::Length(_, varint)) = self.step else {
            return Err(self.error());
        };
        let value = match varint.push(byte).ok_or_else(|| self.error())? {
            Ok(value) => value,
            Err(unfinished) => {
                match &mut self.step {
                    Step::Key(varint) | Step::Number(varint) | Step::Length(_, varint) => {
                        *varint = unfinished;
                    }
                    Step::Skipped { .. } | Step::Text { .. } => {}
                }
                return if self.position < end { Ok(()) } else { Err(self.error()) };
            }
        };
        match self.step {
            Step::Key(_) => {
                let field = shape.fields.iter().find(|(tag, _)| *tag == value >> 3);
                self.step = match value & 7 {
                    0 => Step::Number(Varint::default()),
                    1 => Step::Skipped { end: self.end(8, end)? },
                    2 => Step::Length(field.map(|(_, shape)| shape), Varint::default()),
                    5 => Step::Skipped { end: self.end(4, end)? },
                    _ => return Err(self.error()),
                };
                // A key needs a value, and that has at least one byte.
                return if self.position < end { Ok(()) } else { Err(self.error()) };
            }
            Step::Length(field, _) => {
                let end = self.end(value, end)?;
                self.begin(field, end, event);
            }
            _ => self.step = Step::Key(Varint::default()),
        }
        Ok(())
    }

    /// Begins a field that has a length.
    fn begin(
        &mut self,
        field: Option<&'static FieldShape<K>>,
        end: u64,
        event: &mut impl FnMut(WireEvent<'_, K>),
    ) {
        self.step = Step::Key(Varint::default());
        match field {
            Some(FieldShape::Message(shape)) => {
                self.open.push((shape, end));
                event(WireEvent::Begin(shape.kind));
            }
            Some(FieldShape::Text(kind)) if end == self.position => {
                event(WireEvent::Text(*kind, Some("")));
            }
            Some(FieldShape::Text(kind)) => self.step = Step::Text { kind: *kind, end },
            None if end == self.position => {}
            None => self.step = Step::Skipped { end },
        }
    }

    fn end_text(&mut self, kind: K, event: &mut impl FnMut(WireEvent<'_, K>)) {
        let text = (self.text.len() <= MAX_TEXT).then(|| str::from_utf8(&self.text).ok()).flatten();
        event(WireEvent::Text(kind, text));
        self.text.clear();
        self.step = Step::Key(Varint::default());
    }

    /// Closes the messages that end here. A message ends between two of its fields only: keys and lengths check that.
    fn close(&mut self, event: &mut impl FnMut(WireEvent<'_, K>)) {
        while let Some((shape, _)) = self.open.pop_if(|(_, end)| *end == self.position) {
            event(WireEvent::End(shape.kind));
        }
    }

    /// The end of something with a length, which must be within its message.
    fn end(&self, length: u64, limit: u64) -> Result<u64, WireError> {
        let end = self.position.checked_add(length).filter(|end| *end <= limit);
        end.ok_or_else(|| self.error())
    }

    /// The bytes up to an end, and those after it.
    fn split<'b>(&mut self, bytes: &'b [u8], end: u64) -> (&'b [u8], &'b [u8]) {
        let wanted = usize::try_from(end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let (part, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
        self.position = self.position.saturating_add(part.len() as u64);
        (part, rest)
    }

    fn error(&self) -> WireError {
        WireError { position: self.position }
    }
}

#[cfg(test)]
mod tests;
