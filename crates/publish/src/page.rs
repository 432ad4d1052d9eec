//! Answers that are made when data changes, so that a request copies bytes.

use std::{
    io::Write,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// One answer, plain and (once somebody asks for it) compressed.
#[derive(Debug)]
pub struct Page {
    content_type: &'static str,
    plain: Bytes,
    gzip: OnceLock<Bytes>,
}

impl Page {
    /// An answer of this type.
    pub fn new(content_type: &'static str, content: impl Into<Bytes>) -> Page {
        Page { content_type, plain: content.into(), gzip: OnceLock::new() }
    }

    /// Its media type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The content as it is.
    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// The content in gzip's format. Compressed at the first request for it, kept for the next ones.
    pub fn gzip(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.plain.len() / 8), Compression::fast());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            Bytes::from(written.expect("writing to memory does not fail"))
        };
        self.gzip.get_or_init(compress).clone()
    }
}

/// All answers of one turn of the loop.
#[derive(Debug)]
pub struct Pages {
    /// `/`, the page for people.
    pub front: Arc<Page>,
    /// `/metrics`.
    pub metrics: Page,
    /// `/compat/dcgm`.
    pub dcgm: Page,
    /// `/inventory`.
    pub inventory: Page,
    /// `/compat/<name>`, for each name that is asked for.
    pub compat: Vec<(&'static str, Page)>,
    /// When they were made.
    pub made: Instant,
    /// After this time without new ones, the loop is taken to be stuck.
    pub patience: Duration,
}
