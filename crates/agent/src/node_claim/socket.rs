//! A claim by an abstract Unix socket, whose name stands for the cluster and the Node.
//!
//! The holder listens, sends one line about itself to each connection, and leaves it open. A waiting agent reads the line and
//! then nothing, until the kernel closes the connection with the holder's end.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    time::{Instant, sleep, timeout},
};

/// Connections that are left open; the oldest of more is closed.
const MAX_CONNECTIONS: usize = 16;
/// The longest line about a holder.
const MAX_LINE: usize = 512;
const LINE_TIMEOUT: Duration = Duration::from_secs(5);
/// After this time a waiting agent connects again, in case that the holder is no longer the one that it connected to.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The shortest time between two attempts.
const RETRY: Duration = Duration::from_millis(100);
/// The same after a connection to a process that is no agent, or while none can be made.
const SLOW_RETRY: Duration = Duration::from_secs(2);

/// For how long no connection can be made while a holder begins or ends.
const UNREACHABLE_GRACE: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about holders: any process can have the name, and send another line each time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The socket, before and after it is bound.
pub(super) struct ClaimSocket {
    name: PathBuf,
    /// The line about this agent.
    identity: String,
    listener: Option<UnixListener>,
    /// Since when another process has the name and no connection can be made.
    unreachable_since: Option<Instant>,
    logged: HolderLog,
}

/// What was logged last of holders.
#[derive(Debug, Default)]
struct HolderLog(Option<(String, Instant)>);

impl HolderLog {
    /// Whether to log a line about a holder now: it is another one, and the last one was not logged a moment ago. What is not
    /// logged is due at the next connection, at the latest after [`MAX_WAIT`].
    fn is_due(&mut self, holder: &str, now: Instant) -> bool {
        let is_due = self.0.as_ref().is_none_or(|(logged, at)| {
            logged != holder && now.saturating_duration_since(*at) >= LOG_INTERVAL
        });
        if is_due {
            self.0 = Some((holder.to_owned(), now));
        }
        is_due
    }
}

impl ClaimSocket {
    pub(super) fn new(server: &str, node: &str, identity: &str) -> ClaimSocket {
        let (name, identity) = (name(server, node), format!("{identity}\n"));
        ClaimSocket { name, identity, listener: None, unreachable_since: None, logged: HolderLog::default() }
    }

    /// Binds the name; false where another process has it.
    pub(super) fn try_bind(&mut self) -> io::Result<bool> {
        match UnixListener::bind(&self.name) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Waits until the holder ends, and logs who it is.
    pub(super) async fn wait_for_holder(&mut self) {
        let Ok(mut stream) = UnixStream::connect(&self.name).await else {
            let since = *self.unreachable_since.get_or_insert_with(Instant::now);
            if since.elapsed() < UNREACHABLE_GRACE {
                return sleep(RETRY).await;
            }
            self.log_holder("");
            return sleep(SLOW_RETRY).await;
        };
        self.unreachable_since = None;
        let mut line = vec![0; MAX_LINE];
        let length = timeout(LINE_TIMEOUT, stream.read(&mut line)).await;
        line.truncate(length.unwrap_or(Ok(0)).unwrap_or_default());
        let holder = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.log_holder(&holder);
        // Nothing more is sent: this ends with the connection.
        let ended = timeout(MAX_WAIT, stream.read(&mut [0])).await;
        let is_agent = !line.is_empty() && (ended.is_err() || matches!(ended, Ok(Ok(0))));
        sleep(if is_agent { RETRY } else { SLOW_RETRY }).await;
    }

    /// Logs who the holder is, if it has said so.
    fn log_holder(&mut self, holder: &str) {
        if !self.logged.is_due(holder, Instant::now()) {
            return;
        }
        if holder.is_empty() {
            tracing::warn!("another process has the claim and does not say who it is; waiting until it ends");
        } else {
            tracing::warn!(?holder, "another agent keeps this Node; waiting until it ends");
        }
    }

    /// Sends the line about this agent to each that connects, until the agent ends.
    pub(super) async fn introduce(self) {
        let Some(listener) = self.listener else { return };
        let mut connections = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A line fits into the buffer of a new socket.
                    let _ = stream.try_write(self.identity.as_bytes());
                    connections.push_back(stream);
                    if connections.len() > MAX_CONNECTIONS {
                        connections.pop_front();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "connection to the claim not accepted");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// The name of the socket: a null byte, which makes it abstract, and a digest, because a name is at most 107 bytes long. Agents of
/// all versions must agree on it.
fn name(server: &str, node: &str) -> PathBuf {
    let digest =
        Sha256::new().chain_update(server.trim_end_matches('/')).chain_update("\n").chain_update(node);
    let digest: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("\0accelerator-feature-discovery/{digest}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixSocket;

    use super::*;

    #[test]
    fn the_name_stands_for_cluster_and_node_and_does_not_change_between_versions() {
        let first = name("https://10.96.0.1/", "node-1");
        assert_eq!(first, name("https://10.96.0.1", "node-1"));
        assert_ne!(first, name("https://10.96.0.2/", "node-1"));
        assert_ne!(first, name("https://10.96.0.1/", "node-2"));
        assert_eq!(first.to_str(), Some("\0accelerator-feature-discovery/209e9e351ce3d9bc37d61b0d2b892944"));
    }

    #[tokio::test]
    async fn the_second_waits_for_the_end_of_the_first_and_learns_who_it_is() {
        let server = format!("https://test-{}", std::process::id());
        let socket = |identity| ClaimSocket::new(&server, "node", identity);
        let (mut first, mut second) = (socket("release a/b"), socket("release c/d"));
        assert!(first.try_bind().expect("sockets can be bound"));
        let holding = tokio::spawn(first.introduce());
        assert!(!second.try_bind().expect("sockets can be bound"));
        let waiting = timeout(Duration::from_millis(300), second.wait_for_holder()).await;
        assert!(waiting.is_err(), "it does not wait");
        assert!(second.logged.0.as_ref().is_some_and(|(holder, _)| holder == "release a/b"));
        let waiting = tokio::spawn(async move {
            second.wait_for_holder().await;
            second
        });
        sleep(Duration::from_millis(300)).await;
        holding.abort();
        let mut second = waiting.await.expect("it does not panic");
        assert!(second.try_bind().expect("sockets can be bound"));
    }

    #[tokio::test]
    async fn a_process_that_sends_another_line_each_time_does_not_fill_the_log() {
        let server = format!("https://squatted-{}", std::process::id());
        let mut waiting = ClaimSocket::new(&server, "node", "release a/b");
        let squatter = UnixListener::bind(&waiting.name).expect("sockets can be bound");
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = squatter.accept().await.expect("connections are accepted");
                // It is closed at once, so that the agent connects again.
                let _ = stream.try_write(format!("release {number}/evil\n").as_bytes());
            }
        });
        for _ in 0..4 {
            waiting.wait_for_holder().await;
        }
        let logged = waiting.logged.0.expect("the first one is logged");
        assert_eq!(logged.0, "release 0/evil", "no other one is, within a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_the_name_and_does_not_listen_is_logged_and_asked_rarely() {
        let server = format!("https://silent-{}", std::process::id());
        let mut waiting = ClaimSocket::new(&server, "node", "release a/b");
        let silent = UnixSocket::new_stream().expect("sockets can be created");
        silent.bind(&waiting.name).expect("sockets can be bound");
        assert!(!waiting.try_bind().expect("another one has the name"));
        timeout(Duration::from_millis(300), waiting.wait_for_holder()).await.expect("it tries again soon");
        assert!(waiting.logged.0.is_none(), "a holder that ends is not logged");
        let grace = async {
            while waiting.logged.0.is_none() {
                waiting.wait_for_holder().await;
            }
        };
        let begun = Instant::now();
        timeout(UNREACHABLE_GRACE * 2 + SLOW_RETRY, grace).await.expect("it is logged");
        assert!(begun.elapsed() >= SLOW_RETRY, "it is asked rarely then");
    }

    #[test]
    fn another_holder_is_logged_once_a_minute_has_passed() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut log = HolderLog::default();
        let events = [(0, "a", true), (1, "a", false), (2, "b", false), (59, "c", false), (60, "b", true)];
        for (at, holder, expected) in events {
            assert_eq!(log.is_due(holder, start + at * second), expected, "{holder} after {at} s");
        }
        assert!(!log.is_due("b", start + 1000 * second), "the same one is logged once");
        assert!(log.is_due("a", start + 1001 * second));
    }
}
