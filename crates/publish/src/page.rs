//! The pages of one iteration of the loop. Those that are scraped are rendered when data changes, so that a request only copies
//! bytes; those that people read are rendered on their first request.

use std::{
    fmt,
    io::Write,
    sync::{Arc, LazyLock, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::header::HeaderValue;

/// A page, plain and, from its first compressed request on, compressed.
pub struct Page {
    content_type: &'static str,
    content: LazyLock<PageContent, Renderer>,
    gzip: OnceLock<Bytes>,
}

/// What a page consists of.
#[derive(Clone, Debug)]
pub struct PageContent {
    text: Bytes,
    policy: Option<HeaderValue>,
}

type Renderer = Box<dyn FnOnce() -> PageContent + Send>;

impl<T: Into<Bytes>> From<T> for PageContent {
    fn from(text: T) -> Self {
        PageContent { text: text.into(), policy: None }
    }
}

impl PageContent {
    /// The same with a Content-Security-Policy. What is not the value of a header is none.
    #[must_use]
    pub fn with_policy(mut self, policy: &str) -> PageContent {
        self.policy = HeaderValue::from_str(policy).ok();
        self
    }
}

impl Page {
    /// A page of this media type.
    pub fn new(content_type: &'static str, content: impl Into<PageContent>) -> Page {
        let content = content.into();
        Page::rendered_on_request(content_type, || content)
    }

    /// A page that is rendered on its first request. `render` must not block: it runs in the thread that serves.
    pub fn rendered_on_request(
        content_type: &'static str,
        render: impl FnOnce() -> PageContent + Send + 'static,
    ) -> Page {
        Page { content_type, content: LazyLock::new(Box::new(render)), gzip: OnceLock::new() }
    }

    /// Its media type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Its Content-Security-Policy.
    pub fn policy(&self) -> Option<&HeaderValue> {
        self.content.policy.as_ref()
    }

    /// The uncompressed content.
    pub fn plain(&self) -> Bytes {
        self.content.text.clone()
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

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("content_type", &self.content_type).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_page_is_rendered_once_and_on_the_first_request_for_it() {
        static RENDERED: AtomicUsize = AtomicUsize::new(0);
        let page = Page::rendered_on_request("text/html", || {
            RENDERED.fetch_add(1, Ordering::Relaxed);
            PageContent::from("<main></main>").with_policy("default-src 'none'")
        });
        assert_eq!((page.content_type(), RENDERED.load(Ordering::Relaxed)), ("text/html", 0));
        assert_eq!(page.plain(), "<main></main>");
        assert_eq!(page.policy().map(HeaderValue::as_bytes), Some(b"default-src 'none'" as &[u8]));
        assert!(page.gzip().starts_with(&[0x1f, 0x8b]));
        assert_eq!(RENDERED.load(Ordering::Relaxed), 1);
    }
}
