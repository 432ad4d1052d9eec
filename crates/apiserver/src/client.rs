//! The client of the API server: kube's, with what kube's own lacks.
//!
//! - The token is read from its file for each request, of which there are few. kube keeps it for a minute by the wall clock:
//!   a token that was replaced and revoked is refused for as long, and for much longer where the clock jumps back.
//! - `Retry-After` reaches who asked. It is a header, and the answers of priority and fairness have no other word of it
//!   (`k8s.io/apiserver`, `tooManyRequests`); kube's error has the body alone.

mod retry_after;
mod token;

use std::sync::Arc;

use kube::{Client, Config, client::ClientBuilder};
use tower::{
    BoxError,
    util::{AndThenLayer, BoxService, MapRequestLayer},
};

use token::TokenFile;

type Request = http::Request<kube::client::Body>;
type Response = http::Response<Box<kube::client::DynBody>>;

/// A client that does not try again by itself: who asks rests as long as it should, and counts what failed.
///
/// # Errors
/// When the configuration's certificates or credentials are of no use.
pub fn client(mut config: Config) -> kube::Result<Client> {
    config.default_retry = false;
    let token = config.auth_info.token_file.take().filter(|_| config.auth_info.token.is_none());
    Ok(complete(ClientBuilder::try_from(config)?, token.map(|path| TokenFile::new(path.into()))))
}

fn complete(
    builder: ClientBuilder<BoxService<Request, Response, BoxError>>,
    token: Option<TokenFile>,
) -> Client {
    let token = token.map(Arc::new);
    let with_token = move |mut request: Request| {
        if let Some(token) = &token {
            token.authorize(request.headers_mut());
        }
        request
    };
    builder
        .with_layer(&MapRequestLayer::new(with_token))
        .with_layer(&AndThenLayer::new(retry_after::tell))
        .build()
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use http::{StatusCode, header};
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// A client whose server answers with a status, a header and a body; and what it was sent as credentials.
    fn played(
        status: StatusCode,
        retry_after: &'static str,
        body: &'static str,
        token: Option<TokenFile>,
    ) -> (Client, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let server = service_fn(move |request: Request| {
            let credentials = request.headers().get(header::AUTHORIZATION);
            let credentials = credentials.and_then(|value| value.to_str().ok()).unwrap_or_default();
            told.lock().expect("nobody panics with it").push(credentials.to_owned());
            let body: Box<kube::client::DynBody> =
                Box::new(http_body_util::BodyExt::map_err(Full::from(body), |never| match never {}));
            let answer = http::Response::builder().status(status).header(header::RETRY_AFTER, retry_after);
            async move { answer.body(body).map_err(BoxError::from) }
        });
        (complete(ClientBuilder::new(server.boxed(), "default"), token), seen)
    }

    async fn refused(client: &Client) -> kube::core::Status {
        let request = http::Request::get("/version").body(Vec::new()).expect("the request is well formed");
        match client.request_text(request).await {
            Err(kube::Error::Api(status)) => *status,
            other => panic!("the answer is {other:?}"),
        }
    }

    fn seconds(status: &kube::core::Status) -> Option<u32> {
        status.details.as_ref().map(|details| details.retry_after_seconds)
    }

    #[tokio::test]
    async fn retry_after_of_a_plain_answer_is_told() {
        let (client, _) = played(StatusCode::TOO_MANY_REQUESTS, "7", "Too many requests.", None);
        let status = refused(&client).await;
        assert_eq!((status.code, seconds(&status)), (429, Some(7)));
        assert_eq!(status.message, "Too many requests.");
    }

    #[tokio::test]
    async fn an_answer_that_says_it_itself_is_left_as_it_is() {
        const BODY: &str = r#"{"kind":"Status","status":"Failure","code":503,"reason":"X","details":{"retryAfterSeconds":3,"name":"n"}}"#;
        let (client, _) = played(StatusCode::SERVICE_UNAVAILABLE, "7", BODY, None);
        let status = refused(&client).await;
        assert_eq!((status.code, seconds(&status)), (503, Some(7)), "the longer of both");
        assert_eq!(
            (status.reason.as_str(), status.details.map(|details| details.name)),
            ("X", Some("n".to_owned()))
        );
    }

    #[tokio::test]
    async fn a_date_in_retry_after_is_passed_over() {
        let (client, _) =
            played(StatusCode::TOO_MANY_REQUESTS, "Fri, 31 Dec 2026 23:59:59 GMT", "busy", None);
        assert_eq!(seconds(&refused(&client).await), None);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out the file")]
    async fn a_token_is_the_one_that_the_file_has_now_or_had_last() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("token");
        fs::write(&file, "first\n").expect("a token can be written");
        let (client, seen) = played(StatusCode::UNAUTHORIZED, "0", "", Some(TokenFile::new(file.clone())));
        refused(&client).await;
        fs::write(&file, "second").expect("a token can be written");
        refused(&client).await;
        fs::remove_file(&file).expect("the token can be removed");
        refused(&client).await;
        assert_eq!(
            *seen.lock().expect("nobody panics with it"),
            ["Bearer first", "Bearer second", "Bearer second"]
        );
    }
}
