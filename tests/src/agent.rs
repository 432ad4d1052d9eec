//! A running agent, and requests to it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `afd run` on a free port of loopback; killed when the value goes.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    address: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, in lower case.
    pub headers: String,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    /// The content as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the answer is UTF-8")
    }
}

impl Agent {
    /// Starts a command that ends in `run` options; the address is added here.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn start(mut command: Command) -> Agent {
        command
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .env("NO_COLOR", "1");
        let mut child = command.spawn().expect("the agent can be started");
        let mut log = BufReader::new(child.stderr.take().expect("standard error is ours"));
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            let length = log.read_line(&mut line).expect("the log can be read");
            seen += &line;
            assert!(length > 0, "the agent ended before it served: {seen}");
            if let Some((_, address)) = line.trim_end().split_once("serving address=") {
                break address.to_owned();
            }
        };
        // Nobody may be left waiting for a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let agent = Agent { child, address };
        agent.until("the first inventory is complete", |agent| agent.get("/readyz").status == 200);
        agent
    }

    /// Where it serves, `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A request.
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    /// A request with more header lines, each ended by `\r\n`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get_with(&self, path: &str, headers: &str) -> Answer {
        Agent::request(&self.address, path, headers)
    }

    /// A request to another of its listeners.
    pub fn get_from(address: &str, path: &str) -> Answer {
        Agent::request(address, path, "")
    }

    /// A request to an agent that may not take connections yet.
    pub fn try_get_from(address: &str, path: &str) -> Option<Answer> {
        Some(Agent::request_on(TcpStream::connect(address).ok()?, path, ""))
    }

    fn request(address: &str, path: &str, headers: &str) -> Answer {
        let stream = TcpStream::connect(address).expect("the agent takes connections");
        Agent::request_on(stream, path, headers)
    }

    fn request_on(mut stream: TcpStream, path: &str, headers: &str) -> Answer {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: afd\r\nConnection: close\r\n{headers}\r\n")
            .expect("a request can be sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the answer ends");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has headers");
        let headers = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("an answer has a status"), headers, body: answer.split_off(end + 4) }
    }

    /// How many lines of `/metrics` begin like this.
    pub fn count(&self, begin: &str) -> usize {
        self.get("/metrics").text().lines().filter(|line| line.starts_with(begin)).count()
    }

    /// The value of a series of `/metrics`: its name with all labels.
    pub fn value(&self, series: &str) -> Option<f64> {
        let answer = self.get("/metrics");
        answer.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The process that asks a library for it.
    pub fn child(&self) -> Option<u32> {
        // Any of its threads may have started it.
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let children: String = children.collect::<Vec<_>>().join(" ");
        children.split_whitespace().find_map(|pid| pid.parse().ok())
    }

    /// Waits for what must happen.
    ///
    /// # Panics
    /// When it does not.
    pub fn until(&self, what: &str, happened: impl Fn(&Agent) -> bool) {
        let begun = Instant::now();
        while !happened(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the process: how long it took and whether it was a success.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(mut self) -> (Duration, bool) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                return (begun.elapsed(), status.success());
            }
            assert!(begun.elapsed() < PATIENCE, "the agent does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
