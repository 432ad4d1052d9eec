//! One request to an HTTP server on the node: blocking, with a deadline and a limit, in the process that queries the sources.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// The longest response. An exposition of GKE's plugin has some hundred KiB.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 16 << 10;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nothing listens at the address.
    #[error("nothing listens at {0}")]
    Absent(SocketAddr),
    /// The server did not respond in time.
    #[error("it does not respond within {} s", .0.as_secs())]
    Late(Duration),
    /// The server has nothing of this name.
    #[error("its response is not 200")]
    NotFound,
    /// The connection failed.
    #[error("the connection failed ({0})")]
    Connection(io::Error),
    /// The response is not one of HTTP, not successful, incomplete or too long.
    #[error("{0}")]
    Response(&'static str),
}

/// The body of the response to GET, with a further header that the server demands and sends itself. It is a request of HTTP/1.0,
/// whose response ends with the connection.
pub(crate) fn get(
    address: SocketAddr,
    path: &str,
    header: Option<(&str, &str)>,
    deadline: Duration,
) -> Result<Vec<u8>, HttpError> {
    let started = Instant::now();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => HttpError::Absent(address),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Late(deadline),
        _ => HttpError::Connection(error),
    };
    let mut stream = TcpStream::connect_timeout(&address, deadline).map_err(failed)?;
    stream.set_write_timeout(Some(deadline)).map_err(failed)?;
    let further = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain, */*\r\n{further}\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let (mut response, mut buffer) = (Vec::new(), [0; READ_BYTES]);
    loop {
        let remaining = deadline.checked_sub(started.elapsed()).filter(|time| !time.is_zero());
        let Some(remaining) = remaining else { return Err(HttpError::Late(deadline)) };
        stream.set_read_timeout(Some(remaining)).map_err(failed)?;
        match stream.read(&mut buffer) {
            Ok(0) => return body(response, header),
            Ok(length) if response.len() + length > MAX_RESPONSE_BYTES => {
                return Err(HttpError::Response("it sends more than 4 MiB"));
            }
            Ok(length) => response.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The body of a response that is complete.
fn body(response: Vec<u8>, header: Option<(&str, &str)>) -> Result<Vec<u8>, HttpError> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return Err(HttpError::Response("its response is not HTTP")) };
    let head = String::from_utf8_lossy(&response[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1));
    let mut is_expected = header.is_none();
    match status {
        Some("200") => {}
        Some("404") => return Err(HttpError::NotFound),
        Some(_) => return Err(HttpError::Response("its response is not 200")),
        None => return Err(HttpError::Response("its response is not HTTP")),
    }
    let body = response[end + 4..].to_vec();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        is_expected |=
            header.is_some_and(|(own, expected)| name.eq_ignore_ascii_case(own) && value == expected);
        if name.eq_ignore_ascii_case("content-length") && value.parse() != Ok(body.len()) {
            return Err(HttpError::Response("its response is incomplete"));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && !value.eq_ignore_ascii_case("identity") {
            return Err(HttpError::Response("its response has an encoding that was not requested"));
        }
    }
    if is_expected {
        Ok(body)
    } else {
        Err(HttpError::Response("its response lacks the header of the server that was expected"))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn answered(response: &'static [u8], deadline: Duration) -> Result<Vec<u8>, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client connects");
            let mut request = [0; 512];
            let length = stream.read(&mut request).expect("it sends a request");
            assert!(request[..length].starts_with(b"GET /metrics HTTP/1.0\r\n"));
            stream.write_all(response).expect("the client reads");
            if response.is_empty() {
                thread::sleep(Duration::from_secs(30));
            }
        });
        get(address, "/metrics", None, deadline)
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_body_ends_with_the_connection() {
        let body = answered(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\n", LIMIT);
        assert_eq!(body.expect("it is complete"), b"a 1\n");
    }

    #[test]
    fn what_is_no_complete_successful_response_is_an_error() {
        for (response, message) in [
            (&b"garbage\r\n\r\n"[..], "its response is not HTTP"),
            (b"HTTP/1.1 200 OK\r\n", "its response is not HTTP"),
            (b"HTTP/1.1 503 No\r\n\r\n", "its response is not 200"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1", "its response is incomplete"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "its response has an encoding that was not requested",
            ),
        ] {
            let error = answered(response, LIMIT).expect_err("it is an error");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_server_is_known_by_its_header() {
        let flavor = Some(("Metadata-Flavor", "Google"));
        let own = b"HTTP/1.0 200 OK\r\nmetadata-flavor: Google\r\n\r\nx".to_vec();
        assert_eq!(body(own, flavor).expect("it is the server"), b"x");
        let error = body(b"HTTP/1.0 200 OK\r\n\r\nx".to_vec(), flavor).expect_err("the header is missing");
        assert_eq!(error.to_string(), "its response lacks the header of the server that was expected");
        let nothing = body(b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(), flavor);
        assert!(matches!(nothing, Err(HttpError::NotFound)));
    }

    #[test]
    fn a_silent_server_costs_the_deadline_and_an_absent_one_nothing() {
        let started = Instant::now();
        let error = answered(b"", Duration::from_millis(200)).expect_err("it is late");
        assert!(matches!(error, HttpError::Late(_)), "{error}");
        assert!(started.elapsed() < LIMIT);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        assert!(matches!(get(address, "/", None, LIMIT), Err(HttpError::Absent(_))));
    }
}
