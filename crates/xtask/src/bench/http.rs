//! Requests on one connection that is kept open: HTTP/1.1 as far as a scrape needs it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, ensure};

/// No scrape may take longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub(crate) struct KeptConnection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl KeptConnection {
    /// Connects to `host:port`.
    pub(crate) fn open(address: &str) -> anyhow::Result<KeptConnection> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(KeptConnection { stream: BufReader::new(stream), address: address.to_owned() })
    }

    /// The content of a page, complete and not compressed.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(request.as_bytes()).context("sending a request")?;
        response(&mut self.stream).with_context(|| format!("reading {path} of {}", self.address))
    }
}

/// The content of one response, by its length or in chunks.
fn response(stream: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let status = line(stream)?;
    ensure!(status.split(' ').nth(1) == Some("200"), "the answer is {status:?}");
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            None => break,
            Some(("content-length", value)) => length = value.parse().context("reading Content-Length")?,
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    if !chunked {
        exactly(stream, length, &mut body)?;
        return Ok(body);
    }
    loop {
        let size = line(stream)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
            .context("reading a chunk")?;
        exactly(stream, size, &mut body)?;
        line(stream)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn exactly(stream: &mut impl Read, length: usize, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let read = stream.take(length as u64).read_to_end(body)?;
    ensure!(read == length, "the connection ended early");
    Ok(())
}

fn line(stream: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the connection ended early");
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_with_a_length_and_in_chunks_follow_each_other() {
        let mut stream: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(response(&mut stream).expect("a length"), b"ok");
        assert_eq!(response(&mut stream).expect("chunks"), b"abcde");
        assert!(stream.is_empty());
    }

    #[test]
    fn an_error_response_is_an_error() {
        assert!(response(&mut b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".as_slice()).is_err());
        assert!(response(&mut b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".as_slice()).is_err());
    }
}
