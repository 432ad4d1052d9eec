//! A kube client with three additions.
//!
//! - The token file is read for each request, of which there are few. kube caches the token for a minute by the wall clock:
//!   one that was replaced and revoked fails for that long, and much longer if the clock jumps back.
//! - `Retry-After` and the code of an error reach the caller. The first is a header, and responses of priority and fairness do not
//!   repeat it in the body (`k8s.io/apiserver`, `tooManyRequests`); kube's error contains the body only.
//! - A response is bounded, and so is each event of a watch: kube reads either completely before it parses it.

mod error_status;
mod response_limit;
mod token;

use std::sync::Arc;

use kube::{Client, Config, client::ClientBuilder};
use tower::{
    BoxError,
    util::{AndThenLayer, BoxService, MapRequestLayer},
};

use response_limit::ResponseLimitLayer;
pub(crate) use response_limit::ResponseTooLong;
use token::TokenFile;

/// The longest response to a request about one node, and the longest event of a watch. etcd stores objects of up to 1.5 MiB, which
/// are longer as JSON.
pub const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// The longest page of a list of all Nodes.
pub const MAX_LIST_BYTES: usize = 64 << 20;

type ApiRequest = http::Request<kube::client::Body>;
type ApiResponse = http::Response<Box<kube::client::DynBody>>;

/// A client that does not retry by itself: the caller backs off, and counts failures. A response of more than `max_response`
/// bytes is an error.
///
/// # Errors
/// When the configuration's certificates or credentials are invalid.
pub fn client(mut config: Config, max_response: usize) -> kube::Result<Client> {
    config.default_retry = false;
    let token = config.auth_info.token_file.take().filter(|_| config.auth_info.token.is_none());
    let token = token.map(|path| TokenFile::new(path.into()));
    Ok(build(ClientBuilder::try_from(config)?, token, max_response))
}

fn build(
    builder: ClientBuilder<BoxService<ApiRequest, ApiResponse, BoxError>>,
    token: Option<TokenFile>,
    max_response: usize,
) -> Client {
    let token = token.map(Arc::new);
    let with_token = move |mut request: ApiRequest| {
        if let Some(token) = &token {
            token.authorize(request.headers_mut());
        }
        request
    };
    builder
        .with_layer(&ResponseLimitLayer { max_bytes: max_response })
        .with_layer(&MapRequestLayer::new(with_token))
        .with_layer(&AndThenLayer::new(error_status::complete))
        .build()
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use http::{StatusCode, header};
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// A client whose fake server responds with a status, a header and a body; and the credentials that it receives.
    fn fake_server(
        status: StatusCode,
        retry_after: &'static str,
        body: &'static str,
        token: Option<TokenFile>,
    ) -> (Client, Arc<Mutex<Vec<String>>>) {
        let credentials_seen = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&credentials_seen);
        let server = service_fn(move |request: ApiRequest| {
            let credentials = request.headers().get(header::AUTHORIZATION);
            let credentials = credentials.and_then(|value| value.to_str().ok()).unwrap_or_default();
            received.lock().expect("no test panics with the lock").push(credentials.to_owned());
            let body: Box<kube::client::DynBody> =
                Box::new(http_body_util::BodyExt::map_err(Full::from(body), |never| match never {}));
            let response = http::Response::builder().status(status).header(header::RETRY_AFTER, retry_after);
            async move { response.body(body).map_err(BoxError::from) }
        });
        (build(ClientBuilder::new(server.boxed(), "default"), token, MAX_RESPONSE_BYTES), credentials_seen)
    }

    async fn error_status(client: &Client) -> kube::core::Status {
        let request = http::Request::get("/version").body(Vec::new()).expect("the request is well formed");
        match client.request_text(request).await {
            Err(kube::Error::Api(status)) => *status,
            other => panic!("the response is {other:?}"),
        }
    }

    fn seconds(status: &kube::core::Status) -> Option<u32> {
        status.details.as_ref().map(|details| details.retry_after_seconds)
    }

    #[tokio::test]
    async fn retry_after_of_a_plain_text_response_is_added() {
        let (client, _) = fake_server(StatusCode::TOO_MANY_REQUESTS, "7", "Too many requests.", None);
        let status = error_status(&client).await;
        assert_eq!((status.code, seconds(&status)), (429, Some(7)));
        assert_eq!(status.message, "Too many requests.");
    }

    #[tokio::test]
    async fn a_status_in_the_response_keeps_its_other_fields() {
        const BODY: &str = r#"{"kind":"Status","status":"Failure","code":503,"reason":"X","details":{"retryAfterSeconds":3,"name":"n"}}"#;
        let (client, _) = fake_server(StatusCode::SERVICE_UNAVAILABLE, "7", BODY, None);
        let status = error_status(&client).await;
        assert_eq!((status.code, seconds(&status)), (503, Some(7)), "the longer of the two");
        assert_eq!(
            (status.reason.as_str(), status.details.map(|details| details.name)),
            ("X", Some("n".to_owned()))
        );
    }

    #[tokio::test]
    async fn an_error_of_a_gateway_has_the_code_of_its_response() {
        for body in [r#"{"message":"bad gateway","code":1001}"#, r#"{"error":"no upstream"}"#, "<html>", ""] {
            let (client, _) = fake_server(StatusCode::BAD_GATEWAY, "", body, None);
            let status = error_status(&client).await;
            assert_eq!((status.code, seconds(&status)), (502, None), "{body}");
        }
    }

    #[tokio::test]
    async fn a_date_in_retry_after_is_ignored() {
        let (client, _) =
            fake_server(StatusCode::TOO_MANY_REQUESTS, "Fri, 31 Dec 2026 23:59:59 GMT", "busy", None);
        assert_eq!(seconds(&error_status(&client).await), None);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test writes the file")]
    async fn the_token_is_read_for_each_request_and_the_last_one_is_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let file = directory.path().join("token");
        fs::write(&file, "first\n").expect("a token can be written");
        let (client, seen) =
            fake_server(StatusCode::UNAUTHORIZED, "0", "", Some(TokenFile::new(file.clone())));
        error_status(&client).await;
        fs::write(&file, "second").expect("a token can be written");
        error_status(&client).await;
        fs::remove_file(&file).expect("the token can be removed");
        error_status(&client).await;
        assert_eq!(
            *seen.lock().expect("no test panics with the lock"),
            ["Bearer first", "Bearer second", "Bearer second"]
        );
    }
}
