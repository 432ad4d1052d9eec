//! The token file of a service account, which the kubelet replaces long before the token expires.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// A token file, and the last token read from it.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<HeaderValue>>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> TokenFile {
        TokenFile { path, last: Mutex::new(None) }
    }

    /// Adds the token to the headers of a request: the one in the file, or the last one if the file cannot be read. Without
    /// any token the request is sent as it is, and the server rejects it.
    pub(super) fn authorize(&self, headers: &mut HeaderMap) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = self.read() {
            *last = Some(token);
        }
        if let Some(token) = last.as_ref() {
            headers.insert(AUTHORIZATION, token.clone());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a file of the container, not of the host")]
    fn read(&self) -> Option<HeaderValue> {
        let token = fs::read_to_string(&self.path).ok()?;
        let token = token.trim();
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}
