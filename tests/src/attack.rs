//! Clients that behave badly on purpose, against an agent on loopback. Every attack is bounded in time and connections.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// What each connection of an attack does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadClient {
    /// Sends hundreds of requests and reads nothing.
    NeverReads,
    /// Sends a request header byte by byte, and never all of it.
    NeverFinishesHeader,
    /// Sends 400 kB of a header that does not end.
    HugeHeader,
    /// Sends requests and reads a byte of the responses at a time.
    ReadsSlowly,
    /// Connects and sends nothing; over TLS that is a handshake that does not begin.
    Silent,
    /// Connects, sends a request, and connects again at once.
    Flood,
}

/// An attack that goes on until it is dropped, for a minute at most.
#[derive(Debug)]
pub struct Attack {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

const THREADS: usize = 4;
const MAX_DURATION: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 20_000;

impl Attack {
    /// Keeps `connections` open from an address of this machine to another; one that the agent ends is opened again.
    pub fn start(source: &str, address: &str, kind: BadClient, connections: usize) -> Attack {
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |index: usize| {
            let (stop, opened) = (Arc::clone(&stop), Arc::clone(&opened));
            let (source, address) = (source.to_owned(), address.to_owned());
            let own = connections / THREADS + usize::from(index < connections % THREADS);
            thread::spawn(move || run((&source, &address), kind, own, &stop, &opened))
        };
        let clients = (0..THREADS).map(client).collect();
        Attack { stop, opened, clients }
    }

    /// How many connections were opened up to now.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

fn run(
    (source, address): (&str, &str),
    kind: BadClient,
    connections: usize,
    stop: &AtomicBool,
    opened: &AtomicUsize,
) {
    let start = Instant::now();
    let mut clients: Vec<Option<TcpStream>> = (0..connections).map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) && start.elapsed() < MAX_DURATION {
        for client in &mut clients {
            if client.is_none() && opened.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS {
                *client = start_client(source, address, kind);
            }
            let is_open = client.as_mut().is_some_and(|stream| annoy(stream, kind));
            if !is_open || kind == BadClient::Flood {
                *client = None;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A connection from an address of this machine; all of 127.0.0.0/8 is local.
///
/// # Errors
/// When it cannot be made.
pub fn connect_from(source: &str, address: &str) -> io::Result<TcpStream> {
    let parse = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &parse(&format!("{source}:0"))?)?;
    connect(&socket, &parse(address)?)?;
    Ok(TcpStream::from(socket))
}

fn start_client(source: &str, address: &str, kind: BadClient) -> Option<TcpStream> {
    let mut stream = connect_from(source, address).ok()?;
    stream.set_nonblocking(true).ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: afd\r\n\r\n";
    let first = match kind {
        BadClient::NeverReads => request.repeat(400),
        BadClient::ReadsSlowly => request.repeat(20),
        BadClient::Flood => request.to_vec(),
        BadClient::NeverFinishesHeader => b"GET /metrics HTTP/1.1\r\nX-Endless: ".to_vec(),
        BadClient::HugeHeader => {
            [b"GET /metrics HTTP/1.1\r\nX-Huge: ".to_vec(), vec![b'a'; 400_000]].concat()
        }
        BadClient::Silent => Vec::new(),
    };
    // What the agent does not take at once is not sent.
    let _ = stream.write(&first);
    Some(stream)
}

/// Does a little harm; whether the connection is still open.
fn annoy(stream: &mut TcpStream, kind: BadClient) -> bool {
    let done = match kind {
        BadClient::NeverReads | BadClient::Flood => stream.write(b"G").map(|_| 1),
        BadClient::NeverFinishesHeader => stream.write(b"a"),
        BadClient::HugeHeader => stream.write(&[b'a'; 4096]),
        BadClient::ReadsSlowly => stream.read(&mut [0; 1]),
        BadClient::Silent => stream.peek(&mut [0; 1]),
    };
    match done {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
