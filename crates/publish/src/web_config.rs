//! The web configuration file that Prometheus' exporters share: TLS, client certificates, basic authentication, headers.
//!
//! Format: `docs/web-configuration.md` of prometheus/exporter-toolkit. Keys that are not supported are errors, so that no setting
//! is silently without effect. Relative paths are relative to the file. Nothing here logs or returns a secret.

mod follow;
mod tls;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use follow::{RELOAD_INTERVAL, follow};
pub use tls::TlsSettings;

/// A longer file is an error; certificates have a few KiB.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// A hash of a higher cost takes seconds for each password that is tried.
const MAX_BCRYPT_COST: u32 = 14;
/// Headers that may be set, as in the exporter toolkit, and their values if these are restricted.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// A web configuration that is in use.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// TLS, if it is configured.
    pub tls: Option<TlsSettings>,
    /// Headers of every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The bcrypt hash of each user's password.
    pub users: BTreeMap<String, String>,
}

/// A web configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not in the format.
    #[error("{0}")]
    Format(String),
    /// A value is not usable.
    #[error("{0}")]
    Value(String),
    /// It protects less than the one in use.
    #[error("it no longer has {0}; restart the agent to serve without")]
    Weaker(&'static str),
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebConfigFile {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsSection {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    min_version: Option<String>,
    max_version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpSection {
    /// Accepted because existing files have it; HTTP/1.1 is served either way.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

/// A web configuration with the content of all its files.
struct WebConfigSources {
    file: WebConfigFile,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// Identifies the content of all files; also of those that cannot be used.
type ContentDigest = [u8; 32];

impl WebConfig {
    /// Reads a web configuration file.
    ///
    /// # Errors
    /// When it or one of its files cannot be read or used.
    pub fn load(path: &Path) -> Result<WebConfig, WebConfigError> {
        WebConfigSources::read(path).1.and_then(WebConfigSources::build)
    }

    /// The protection that it lacks in comparison with another one.
    fn lacks(&self, other: &WebConfig) -> Option<&'static str> {
        let rank =
            |config: &WebConfig| config.tls.as_ref().map(|tls| (tls.client_certificates, tls.requires_tls13));
        match (rank(self), rank(other)) {
            (None, Some(_)) => Some("TLS"),
            (Some(new), Some(old)) if new.0 < old.0 => Some("the same demand for client certificates"),
            (Some(new), Some(old)) if old.1 && !new.1 => Some("the same lowest version of TLS"),
            _ if self.users.is_empty() && !other.users.is_empty() => Some("users"),
            _ => None,
        }
    }
}

impl WebConfigSources {
    fn read(path: &Path) -> (ContentDigest, Result<WebConfigSources, WebConfigError>) {
        let mut digest = Sha256::new();
        let sources = WebConfigSources::read_all(path, &mut digest);
        if let Err(error) = &sources {
            digest.update(error.to_string());
        }
        (digest.finalize().into(), sources)
    }

    fn read_all(path: &Path, digest: &mut Sha256) -> Result<WebConfigSources, WebConfigError> {
        let text = read_bounded(path, digest)?;
        let mut options = serde_saphyr::Options::default();
        // The file contains secrets, and errors are logged.
        options.with_snippet = false;
        let file: Option<WebConfigFile> = serde_saphyr::from_slice_with_options(&text, options)
            .map_err(|error| WebConfigError::Format(error.without_snippet().to_string()))?;
        let mut file = file.unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut content = |name: &str, inline: Option<String>, file: &Option<PathBuf>| match (inline, file) {
            (Some(_), Some(_)) => Err(WebConfigError::Value(format!("both {name} and {name}_file are set"))),
            (Some(inline), None) => Ok(Some(inline.into_bytes())),
            (None, Some(path)) => read_bounded(&folder.join(path), digest).map(Some),
            (None, None) => Ok(None),
        };
        let (certificate, key, client_ca) = match &mut file.tls_server_config {
            None => (None, None, None),
            Some(tls) => (
                content("cert", tls.cert.take(), &tls.cert_file)?,
                content("key", tls.key.take(), &tls.key_file)?,
                content("client_ca", tls.client_ca.take(), &tls.client_ca_file)?,
            ),
        };
        Ok(WebConfigSources { file, certificate, key, client_ca })
    }

    fn build(self) -> Result<WebConfig, WebConfigError> {
        let tls = match &self.file.tls_server_config {
            Some(section) => Some(tls::settings(section, self.certificate, self.key, self.client_ca)?),
            None => None,
        };
        let http = self.file.http_server_config.unwrap_or_default();
        let headers = http.headers.unwrap_or_default();
        let users = self.file.basic_auth_users.unwrap_or_default();
        users.iter().try_for_each(|(user, hash)| check_hash(user, hash))?;
        if tls.is_none() && headers.is_empty() && users.is_empty() {
            let message =
                "it sets none of tls_server_config, http_server_config.headers and basic_auth_users";
            return Err(WebConfigError::Value(message.to_owned()));
        }
        let headers =
            headers.into_iter().map(|(name, value)| header(&name, &value)).collect::<Result<_, _>>()?;
        Ok(WebConfig { tls, headers, users })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), WebConfigError> {
    let supported = || HEADERS.map(|(name, _)| name).join(", ");
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
        return Err(WebConfigError::Value(format!("the header {name} cannot be set, only {}", supported())));
    };
    if !values.is_empty() && !values.contains(&value) {
        return Err(WebConfigError::Value(format!("the header {name} may only be {}", values.join(" or "))));
    }
    let invalid = || WebConfigError::Value(format!("the value of the header {name} is not valid"));
    Ok((
        HeaderName::from_str(name).map_err(|_| invalid())?,
        HeaderValue::from_str(value).map_err(|_| invalid())?,
    ))
}

fn check_hash(user: &str, hash: &str) -> Result<(), WebConfigError> {
    let parts: bcrypt::HashParts = hash
        .parse()
        .map_err(|_| WebConfigError::Value(format!("the password of {user:?} is not a bcrypt hash")))?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        let message = format!("the cost of the hash of {user:?} is above {MAX_BCRYPT_COST}");
        return Err(WebConfigError::Value(message));
    }
    Ok(())
}

#[expect(clippy::disallowed_types, reason = "a file of our own configuration, not of the host")]
fn read_bounded(path: &Path, digest: &mut Sha256) -> Result<Vec<u8>, WebConfigError> {
    let read = || {
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too long"));
        }
        Ok(content)
    };
    let content = read().map_err(|source| WebConfigError::Read { path: path.to_owned(), source })?;
    digest.update((content.len() as u64).to_le_bytes());
    digest.update(&content);
    Ok(content)
}

#[cfg(test)]
mod tests;
