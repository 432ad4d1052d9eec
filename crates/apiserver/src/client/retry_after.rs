//! The header `Retry-After` as a part of the Status that kube makes an error of.

use std::cmp::max;

use http::{HeaderMap, header::RETRY_AFTER};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Bytes;
use kube::core::{Status, response::StatusDetails};
use tower::BoxError;

use super::Response;

/// An answer with a body of its own or one that was made anew.
type Told = http::Response<Either<Box<kube::client::DynBody>, Full<Bytes>>>;

/// Passes an answer on. A refusal with `Retry-After` in seconds becomes a Status whose details have it.
pub(super) async fn tell(answer: Response) -> Result<Told, BoxError> {
    let refused = answer.status().is_client_error() || answer.status().is_server_error();
    let Some(seconds) = seconds(answer.headers()).filter(|_| refused) else {
        return Ok(answer.map(Either::Left));
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
        Status::failure(String::from_utf8_lossy(&body).trim(), "").with_code(head.status.as_u16())
    });
    let details = status.details.get_or_insert_with(nothing);
    details.retry_after_seconds = max(details.retry_after_seconds, seconds);
    let body = serde_json::to_vec(&status)?;
    Ok(http::Response::from_parts(head, Either::Right(Full::from(body))))
}

/// RFC 9110, 10.2.3. API servers send seconds; a date would need a clock that both agree on.
fn seconds(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().filter(|seconds| *seconds > 0)
}

fn nothing() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}
