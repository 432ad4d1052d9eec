//! Which lines are logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};

/// It logs responses that it cannot decode, with all that is in them: variables of pods, tokens.
const CLIENT: &str = "kube_client";

/// What a setting such as `info,afd_publish=debug` selects. Of the client of the API server only errors are logged, unless the
/// setting names it.
///
/// # Errors
/// When it is no such setting.
pub fn log_filter(setting: &str) -> Result<Targets, ParseError> {
    let selected: Targets = setting.parse()?;
    let default = selected.default_level().unwrap_or(LevelFilter::OFF);
    let filter = Targets::new().with_default(default).with_target(CLIENT, default.min(LevelFilter::ERROR));
    Ok(filter.with_targets(selected.iter()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use afd_apiserver::ApiCalls;
    use kube::Config;
    use prometheus::{IntCounterVec, Opts};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What is logged.
    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics with the lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log of a call to a server that responds with a code and a body.
    fn logged(setting: &str, code: u16, body: &str) -> String {
        let log = LogBuffer::default();
        let lines = log.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || lines.clone()).with_ansi(false);
        let filter = log_filter(setting).expect("the setting is valid");
        let subscriber = tracing_subscriber::registry().with(lines).with(filter);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let call = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let url = format!("http://{}", listener.local_addr().expect("it listens"));
            let config = Config::new(url.parse().expect("it is a URL"));
            let client = afd_apiserver::client(config, 4 << 20).expect("the configuration is valid");
            let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
            let calls = ApiCalls::new(counter.expect("the names are valid"));
            let call = calls.call("get", "the version", client.apiserver_version());
            let respond = async {
                let (mut stream, _) = listener.accept().await.expect("the client connects");
                let bytes = stream.read(&mut [0; 4096]).await.expect("it can be read");
                assert!(bytes > 0, "it sends a request");
                let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.expect("the client reads");
                stream
            };
            let (result, _stream) = tokio::join!(call, respond);
            tracing::warn!(error = %result.expect_err("it fails"), "a call failed");
        };
        tracing::subscriber::with_default(subscriber, || runtime.expect("there are threads").block_on(call));
        let bytes = log.0.lock().expect("no test panics with the lock").clone();
        String::from_utf8(bytes).expect("lines are text")
    }

    #[test]
    fn a_response_that_cannot_be_decoded_is_not_logged() {
        const RESPONSE: &str = r#"{"env":[{"name":"TOKEN","value":"s3cret"}]"#;
        for setting in ["info", "debug", "warn,afd_publish=debug"] {
            let log = logged(setting, 200, RESPONSE);
            assert!(log.contains("get of the version") && !log.contains("s3cret"), "{log}");
        }
        let log = logged("info,kube_client=warn", 200, RESPONSE);
        assert!(log.contains("s3cret"), "a setting that names it counts: {log}");
        assert!(!logged("kube_client=error,off", 200, RESPONSE).contains("a call failed"));
    }

    #[test]
    fn an_error_page_is_one_short_line_of_the_log() {
        let page = "<html>\n\u{1b}[31mno\u{202e}\n".repeat(1 << 16);
        assert!(page.len() > 1 << 20);
        let log = logged("info", 404, &page);
        let line = log.lines().find(|line| line.contains("a call failed")).unwrap_or_default();
        assert!(line.contains("404") && line.contains("<html>"), "{line}");
        assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}') && log.len() < 2000, "{log}");
    }
}
