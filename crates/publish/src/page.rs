//! RenderedPages that are rendered when data changes, so that a request only copies bytes.

use std::{
    io::Write,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::header::HeaderValue;

/// A rendered page, plain and, from its first compressed request on, compressed.
#[derive(Debug)]
pub struct Page {
    content_type: &'static str,
    policy: Option<HeaderValue>,
    parts: Vec<Bytes>,
    plain: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
}

impl Page {
    /// A page of this media type.
    pub fn new(content_type: &'static str, content: impl Into<Bytes>) -> Page {
        let plain = OnceLock::from(content.into());
        Page { content_type, policy: None, parts: Vec::new(), plain, gzip: OnceLock::new() }
    }

    /// A page of parts that other pages share; they are joined on the first request.
    pub fn of_parts(content_type: &'static str, parts: Vec<Bytes>) -> Page {
        Page { content_type, policy: None, parts, plain: OnceLock::new(), gzip: OnceLock::new() }
    }

    /// The same with a Content-Security-Policy. What is not the value of a header is none.
    #[must_use]
    pub fn with_policy(mut self, policy: &str) -> Page {
        self.policy = HeaderValue::from_str(policy).ok();
        self
    }

    /// Its media type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Its Content-Security-Policy.
    pub fn policy(&self) -> Option<&HeaderValue> {
        self.policy.as_ref()
    }

    /// The uncompressed content.
    pub fn plain(&self) -> Bytes {
        self.plain.get_or_init(|| Bytes::from(self.parts.concat())).clone()
    }

    /// The content compressed by gzip. Compressed on the first request, and cached.
    pub fn gzip(&self) -> Bytes {
        let compress = || {
            let plain = self.plain();
            let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
            let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
            Bytes::from(written.expect("writing to memory does not fail"))
        };
        self.gzip.get_or_init(compress).clone()
    }
}

/// `/inventory`, for two kinds of clients.
#[derive(Debug)]
pub struct InventoryPages {
    /// Without serial numbers.
    pub public: Page,
    /// The whole inventory.
    pub complete: Page,
}

/// All pages of one iteration of the loop.
#[derive(Debug)]
pub struct RenderedPages {
    /// `/`, the status page.
    pub status_page: Page,
    /// `/live.html`, the part of it that changes.
    pub live_part: Page,
    /// `/live`, the same as JSON.
    pub live: Page,
    /// `/metrics`.
    pub metrics: Page,
    /// `/compat/dcgm`.
    pub dcgm: Page,
    /// What the listener for endpoint pickers serves.
    pub door: Page,
    /// `/inventory`.
    pub inventory: Arc<InventoryPages>,
    /// `/compat/<name>`, for each enabled name.
    pub compat: Vec<(&'static str, Page)>,
    /// When they were rendered.
    pub rendered_at: Instant,
    /// The age from which on the loop is considered stuck.
    pub stale_after: Duration,
}
