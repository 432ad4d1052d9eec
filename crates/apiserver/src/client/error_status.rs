//! Completes the Status from which kube makes an error: by the header `Retry-After`, and by the code of the response.
//!
//! What is not an API server, such as a gateway, has JSON of its own. kube takes that for a Status with the code 0.

use std::cmp::max;

use http::{HeaderMap, header::RETRY_AFTER};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Bytes;
use kube::core::{Status, response::StatusDetails};
use tower::BoxError;

use super::ApiResponse;

/// A response with its original body or a rewritten one.
type RewrittenResponse = http::Response<Either<Box<kube::client::DynBody>, Full<Bytes>>>;

/// Turns an error response into a Status with its code, and with `Retry-After` in seconds in its details; passes on all others.
pub(super) async fn complete(response: ApiResponse) -> Result<RewrittenResponse, BoxError> {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return Ok(response.map(Either::Left));
    }
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut status = serde_json::from_slice::<Status>(&body)
        .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body).trim(), ""));
    status.code = head.status.as_u16();
    if let Some(seconds) = seconds(&head.headers) {
        let details = status.details.get_or_insert_with(empty_details);
        details.retry_after_seconds = max(details.retry_after_seconds, seconds);
    }
    let body = serde_json::to_vec(&status)?;
    Ok(http::Response::from_parts(head, Either::Right(Full::from(body))))
}

/// RFC 9110, 10.2.3. API servers send seconds; a date would need synchronized clocks.
fn seconds(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().filter(|seconds| *seconds > 0)
}

fn empty_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}
