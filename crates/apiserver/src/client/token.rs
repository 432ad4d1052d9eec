//! The file of a service account's token, which the kubelet replaces long before the token ends.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// A token file, and the last word of it.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<HeaderValue>>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> TokenFile {
        TokenFile { path, last: Mutex::new(None) }
    }

    /// Puts the token into a request's headers: the one that the file has now, or had when it could last be read. Without
    /// one the request goes as it is, and the server says what it thinks of that.
    pub(super) fn authorize(&self, headers: &mut HeaderMap) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = self.read() {
            *last = Some(token);
        }
        if let Some(token) = last.as_ref() {
            headers.insert(AUTHORIZATION, token.clone());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the container's own file, not one of the host")]
    fn read(&self) -> Option<HeaderValue> {
        let token = fs::read_to_string(&self.path).ok()?;
        let token = token.trim();
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}
