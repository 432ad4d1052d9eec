//! Who may read what: no credentials at all, a client certificate, a user and password, or a token of Kubernetes.
//!
//! `/healthz` and `/readyz` need no credentials. Where users or tokens are configured, everything else needs one of them.
//! Nothing is granted because a check failed.

mod cache;
mod passwords;
mod queue;
mod tokens;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

pub use tokens::TokenVerifier;

use super::{pages::text, places::ClientNetwork, reject::RejectReason};
use crate::web_config::WebConfig;
use passwords::PasswordVerifier;

/// What a listener demands of its clients.
pub struct Access {
    web: Option<watch::Receiver<Arc<WebConfig>>>,
    passwords: PasswordVerifier,
    tokens: Option<TokenVerifier>,
}

/// What access depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallerRequest<'r> {
    pub(super) path: &'r str,
    pub(super) headers: &'r HeaderMap,
    pub(super) is_loopback: bool,
    /// A verified one.
    pub(super) has_certificate: bool,
    pub(super) network: ClientNetwork,
}

/// Whom a response is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Audience {
    /// Any client: pages have no serial numbers.
    Public,
    /// A client that has authenticated itself, or that is on this node.
    Trusted,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Without valid credentials; they may be a user and password, or a token.
    Unauthorized { basic: bool, bearer: bool },
    /// The API server does not permit the path.
    Forbidden,
    /// Too many credentials of this client are being checked.
    Busy,
    /// The API server does not answer.
    Unavailable,
}

impl Access {
    /// Access by a web configuration and by tokens; without either, for everyone.
    pub fn new(web: Option<watch::Receiver<Arc<WebConfig>>>, tokens: Option<TokenVerifier>) -> Access {
        Access { web, passwords: PasswordVerifier::default(), tokens }
    }

    fn web_config(&self) -> Option<Arc<WebConfig>> {
        self.web.as_ref().map(|web| Arc::clone(&web.borrow()))
    }

    /// TLS for a new connection, if it is configured.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.web_config()?.tls.as_ref().map(|tls| Arc::clone(&tls.server))
    }

    /// The headers of every response.
    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.web_config().map(|config| config.headers.clone()).unwrap_or_default()
    }

    /// Whom the response to a request is for.
    pub(super) async fn audience(&self, caller: &CallerRequest<'_>) -> Result<Audience, Refusal> {
        let config = self.web_config();
        let users = config.as_ref().map(|config| &config.users).filter(|users| !users.is_empty());
        if matches!(caller.path, "/healthz" | "/readyz") {
            return Ok(Audience::Public);
        }
        if users.is_none() && self.tokens.is_none() {
            let is_trusted = caller.is_loopback || caller.has_certificate;
            return Ok(if is_trusted { Audience::Trusted } else { Audience::Public });
        }
        let refused = Refusal::Unauthorized { basic: users.is_some(), bearer: self.tokens.is_some() };
        match (CallerCredentials::of(caller.headers), users, &self.tokens) {
            (Some(CallerCredentials::Basic { user, password }), Some(users), _) => {
                let is_valid = self.passwords.verify(users, &user, password, caller.network).await?;
                if is_valid { Ok(Audience::Trusted) } else { Err(refused) }
            }
            (Some(CallerCredentials::Bearer(token)), _, Some(tokens)) => {
                match tokens.verify(token, caller.path, caller.network).await {
                    Err(Refusal::Unauthorized { .. }) => Err(refused),
                    result => result.map(|()| Audience::Trusted),
                }
            }
            _ => Err(refused),
        }
    }
}

/// The credentials of a request.
enum CallerCredentials<'r> {
    Basic { user: String, password: Vec<u8> },
    Bearer(&'r str),
}

impl CallerCredentials<'_> {
    fn of(headers: &HeaderMap) -> Option<CallerCredentials<'_>> {
        let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(CallerCredentials::Bearer(value)).filter(|_| !value.is_empty());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(value).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
        Some(CallerCredentials::Basic { user, password: decoded[colon + 1..].to_vec() })
    }
}

impl Refusal {
    pub(super) fn reason(self) -> RejectReason {
        match self {
            Refusal::Unauthorized { .. } => RejectReason::Unauthorized,
            Refusal::Forbidden => RejectReason::Forbidden,
            Refusal::Busy => RejectReason::Busy,
            Refusal::Unavailable => RejectReason::Unavailable,
        }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let (status, message) = match self {
            Refusal::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "credentials are required\n"),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "these credentials do not permit this path\n"),
            Refusal::Busy => (StatusCode::TOO_MANY_REQUESTS, "too many credentials are being checked\n"),
            Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "credentials cannot be checked now\n"),
        };
        let mut response = text(status, message);
        let headers = response.headers_mut();
        match self {
            Refusal::Unauthorized { basic, bearer } => {
                let challenges = [(basic, "Basic realm=\"afd\""), (bearer, "Bearer realm=\"afd\"")];
                for (_, challenge) in challenges.into_iter().filter(|(is_accepted, _)| *is_accepted) {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            Refusal::Busy | Refusal::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Refusal::Forbidden => {}
        }
        response
    }
}

#[cfg(test)]
mod tests;
