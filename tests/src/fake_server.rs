//! A server on loopback whose answers a test sets, for what the agent queries.

use std::{
    collections::BTreeMap,
    io::{Read, Write, copy},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How a server answers.
#[derive(Clone, Debug)]
pub enum FakeAnswer {
    /// As the server at this address.
    Forward(SocketAddr),
    /// To GET, with the text of the path, else 404. The request and the response have this line in their heads.
    Paths {
        /// The line.
        header: &'static str,
        /// The texts.
        texts: BTreeMap<String, String>,
    },
    /// With this text, as HTTP.
    Text(String),
    /// With these bytes in place of a response.
    Bytes(Vec<u8>),
    /// Not at all, as long as the connection is open.
    Nothing,
}

/// A server whose answers a test sets.
#[derive(Debug)]
pub struct FakeServer {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<FakeAnswer>>,
    connections: Arc<AtomicUsize>,
}

impl FakeServer {
    /// Starts a server that answers so.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(answer: FakeAnswer) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let server = FakeServer {
            address: listener.local_addr().expect("it is bound"),
            answer: Arc::new(Mutex::new(answer)),
            connections: Arc::default(),
        };
        let (shared, connections) = (Arc::clone(&server.answer), Arc::clone(&server.connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::Relaxed);
                let answer = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                thread::spawn(move || serve(stream.expect("a client connects"), answer));
            }
        });
        server
    }

    /// Sets the answer to connections from now on.
    pub fn set(&self, answer: FakeAnswer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How many clients have connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The client may have gone at any time.
fn serve(mut stream: TcpStream, answer: FakeAnswer) {
    let mut request = [0; 2048];
    let _ = match answer {
        FakeAnswer::Forward(address) => {
            let server = TcpStream::connect(address).expect("the server listens");
            let ends = [&stream, &server].map(|end| end.try_clone().expect("a socket can be cloned"));
            let [mut client, mut back] = ends;
            thread::spawn(move || {
                let _ = copy(&mut back, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
            let copied = copy(&mut stream, &mut &server);
            let _ = server.shutdown(Shutdown::Both);
            copied.map(drop)
        }
        FakeAnswer::Paths { header, texts } => {
            let length = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.contains(&format!("{header}\r\n")), "{request}");
            match texts.get(request.split(' ').nth(1).unwrap_or_default()) {
                Some(text) => write!(stream, "HTTP/1.0 200 OK\r\n{header}\r\n\r\n{text}"),
                None => write!(stream, "HTTP/1.0 404 Not Found\r\n{header}\r\n\r\n"),
            }
        }
        FakeAnswer::Text(text) => {
            let _ = stream.read(&mut request);
            let length = text.len();
            let head =
                format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all([head, text].concat().as_bytes())
        }
        FakeAnswer::Bytes(bytes) => {
            let _ = stream.read(&mut request);
            stream.write_all(&bytes)
        }
        FakeAnswer::Nothing => stream.read(&mut request).and_then(|_| stream.read(&mut request)).map(drop),
    };
}
