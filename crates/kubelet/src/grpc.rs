//! A unary call of gRPC whose response is read in pieces, unlike with tonic's own client, which collects it.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Version, header};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service, ServiceExt};

use crate::client::{KubeletError, MAX_RESPONSE_BYTES};

/// The whole response, and each wait for a part of it.
const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// The prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The response to a call, of which the message's length was read.
pub(crate) struct GrpcResponse {
    body: Body,
    /// What came with the prefix.
    buffered: BytesMut,
    /// Of the message.
    pub(crate) length: u64,
    deadline: Instant,
}

/// Calls a method without any argument.
pub(crate) async fn call(channel: &mut Channel, path: &'static str) -> Result<GrpcResponse, KubeletError> {
    let deadline = Instant::now() + DEADLINE;
    // A message of no bytes.
    let body = Body::new(Full::new(Bytes::from_static(&[0; PREFIX])));
    let request = Request::post(path)
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(body)
        .expect("constant headers are valid");
    let response = within(deadline, async { channel.ready().await?.call(request).await }).await?;
    let response = response.map_err(|error| failed(&Status::from_error(error.into())))?;
    check(response.headers())?;
    let mut response =
        GrpcResponse { body: response.into_body(), buffered: BytesMut::new(), length: 0, deadline };
    while response.buffered.len() < PREFIX {
        let Some(bytes) = response.frame().await? else {
            return Err(KubeletError::Malformed("it ends before its message".to_owned()));
        };
        response.buffered.extend_from_slice(&bytes);
    }
    let compressed = response.buffered.get_u8();
    response.length = response.buffered.get_u32().into();
    if compressed != 0 {
        return Err(KubeletError::Malformed("it is compressed".to_owned()));
    }
    if response.length > MAX_RESPONSE_BYTES {
        return Err(KubeletError::TooLarge { length: response.length });
    }
    Ok(response)
}

impl GrpcResponse {
    /// The next bytes of the message.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, KubeletError> {
        if self.buffered.is_empty() { self.frame().await } else { Ok(Some(self.buffered.split().freeze())) }
    }

    /// The next bytes of the body; none after the trailers of a success.
    async fn frame(&mut self) -> Result<Option<Bytes>, KubeletError> {
        loop {
            let Some(frame) = within(self.deadline, self.body.frame()).await? else { return Ok(None) };
            match frame.map_err(|status| failed(&status))?.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        check(&trailers)?;
                    }
                }
            }
        }
    }
}

/// Waits for a step of a call.
pub(crate) async fn within<T>(deadline: Instant, step: impl Future<Output = T>) -> Result<T, KubeletError> {
    let deadline = deadline.min(Instant::now() + STEP_DEADLINE);
    timeout_at(deadline, step).await.map_err(|_| KubeletError::TimedOut)
}

/// Fails if headers or trailers have the status of an error.
fn check(headers: &HeaderMap) -> Result<(), KubeletError> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(failed(&status)),
        _ => Ok(()),
    }
}

fn failed(status: &Status) -> KubeletError {
    KubeletError::Failed { code: status.code(), message: status.message().to_owned() }
}
