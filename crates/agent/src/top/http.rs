//! Reads `/live` of an agent: one request over plain HTTP.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde_json::Value;

use super::source::SourcedReport;
use crate::visible::visible_live;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// More than this is no report: one of 64 devices with eight partitions each has less than 1 MiB.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;
/// The first byte of what a server sends that expects TLS: an alert.
const TLS_ALERT: u8 = 0x15;

/// Why an agent could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The address is none of plain HTTP.
    #[error(
        "{0}: only http://HOST:PORT can be read; where the agent serves https, --local observes this host instead"
    )]
    Url(String),
    /// Nothing listens.
    #[error("no agent answers at {url}: {error}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the connection failed with.
        error: io::Error,
    },
    /// It expects TLS.
    #[error(
        "the agent at {url} serves https, which this command does not read; --local observes this host instead"
    )]
    Tls {
        /// The address.
        url: String,
    },
    /// It demands credentials.
    #[error(
        "the agent at {url} demands credentials (status {status}), which this command does not send; --local observes \
         this host instead"
    )]
    Credentials {
        /// The address.
        url: String,
        /// The status of the response.
        status: u16,
    },
    /// Its first inventory is not complete.
    #[error("the agent at {url} is not ready: {message}")]
    Starting {
        /// The address.
        url: String,
        /// Its response.
        message: String,
    },
    /// The response is none of an agent of this version.
    #[error("{url}/live is no report of an agent: {message}")]
    Response {
        /// The address.
        url: String,
        /// What is wrong.
        message: String,
    },
}

/// The address of an agent.
#[derive(Clone, Debug)]
pub(super) struct AgentUrl {
    /// Host and port.
    authority: String,
}

impl AgentUrl {
    /// Parses `http://HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<AgentUrl, AgentError> {
        let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let valid = |authority: &&str| {
            !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        match authority.filter(valid) {
            Some(authority) => Ok(AgentUrl { authority: authority.to_owned() }),
            None => Err(AgentError::Url(text.to_owned())),
        }
    }

    /// The address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// The addresses of the host; port 80 where none is given.
    fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let resolved = match self.authority.to_socket_addrs() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                format!("{}:80", self.authority).to_socket_addrs()
            }
            resolved => resolved,
        };
        Ok(resolved?.collect())
    }

    /// The present report.
    pub(super) fn read(&self) -> Result<SourcedReport, AgentError> {
        let response = self.request().map_err(|error| AgentError::Unreachable { url: self.url(), error })?;
        self.interpret(&response)
    }

    fn request(&self) -> io::Result<Vec<u8>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut connected = None;
        for address in self.addresses()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let mut stream = connected.ok_or(last)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        // By HTTP/1.0 the end of the response is that of the connection.
        let request = format!("GET /live HTTP/1.0\r\nHost: {}\r\n\r\n", self.authority);
        let sent = stream.write_all(request.as_bytes());
        let mut response = Vec::new();
        let read = stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response);
        match sent.and(read) {
            // A server may answer and close the connection before it has read the request, or reset it after an alert of TLS.
            Err(error) if response.is_empty() => Err(error),
            _ => Ok(response),
        }
    }

    fn interpret(&self, response: &[u8]) -> Result<SourcedReport, AgentError> {
        let wrong = |message: &str| AgentError::Response { url: self.url(), message: message.to_owned() };
        // A server that expects TLS answers with an alert, or with nothing.
        if response.first().is_none_or(|byte| *byte == TLS_ALERT) {
            return Err(AgentError::Tls { url: self.url() });
        }
        let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let (headers, body) = response.split_at(end.ok_or_else(|| wrong("it is not HTTP"))?);
        let headers = String::from_utf8_lossy(headers);
        let mut lines = headers.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let body = &body[4..];
        match status {
            Some(200) => {}
            Some(status @ (401 | 403)) => return Err(AgentError::Credentials { url: self.url(), status }),
            Some(503) => {
                let message = String::from_utf8_lossy(body).trim().to_owned();
                return Err(AgentError::Starting { url: self.url(), message });
            }
            Some(status) => return Err(wrong(&format!("status {status}"))),
            None => return Err(wrong("it is not HTTP")),
        }
        let age =
            lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("age"));
        let seconds = age.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or_default();
        let value: Value = serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))?;
        let report = visible_live(value).map_err(|error| wrong(&error.to_string()))?;
        Ok(SourcedReport { report, age: Duration::from_secs(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(response: &str) -> Result<SourcedReport, AgentError> {
        AgentUrl::parse("http://node:9109/").expect("it is an address").interpret(response.as_bytes())
    }

    #[test]
    fn only_plain_http_is_an_address() {
        for wrong in [
            "https://node:9109",
            "node:9109",
            "http://",
            "http://node/metrics",
            "http://a b",
            "http://a\r\nX:",
        ] {
            assert!(matches!(AgentUrl::parse(wrong), Err(AgentError::Url(_))), "{wrong}");
        }
        assert_eq!(AgentUrl::parse("http://[::1]:9109/").expect("it is one").url(), "http://[::1]:9109");
    }

    #[test]
    fn a_report_has_its_age_and_its_text_controls_no_terminal() {
        let response =
            "HTTP/1.0 200 OK\r\nAge: 95\r\n\r\n{\"node\": \"gpu\\u001b[31m\", \"interval_seconds\": 5}";
        let read = read(response).expect("it is a report");
        assert_eq!(read.age, Duration::from_secs(95));
        assert_eq!(read.report.node.as_deref(), Some("gpu\\u{1b}[31m"));
    }

    #[test]
    fn what_is_no_report_is_a_clear_error() {
        let error = |response: &str| read(response).expect_err("it is no report").to_string();
        assert!(error("").contains("serves https"));
        assert!(error("\u{15}\u{3}\u{3}").contains("serves https"));
        assert!(error("HTTP/1.0 401 Unauthorized\r\n\r\n").contains("demands credentials (status 401)"));
        assert!(error("HTTP/1.0 403 Forbidden\r\n\r\n").contains("demands credentials (status 403)"));
        assert!(
            error("HTTP/1.0 503 x\r\n\r\nthe first inventory\n").ends_with("not ready: the first inventory")
        );
        assert!(error("HTTP/1.0 404 Not Found\r\n\r\n").ends_with("status 404"));
        assert!(error("HTTP/1.0 200 OK\r\n\r\n<html>").contains("no report of an agent"));
        assert!(error("SSH-2.0-OpenSSH\r\n").ends_with("it is not HTTP"));
    }
}
