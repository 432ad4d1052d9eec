//! A running agent, and requests to it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use afd_model::{Device, FactSet, Inventory};
use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for a condition: generous, so that a busy machine fails no test.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The devices of an inventory without the marks of facts that a silent library may still report.
pub fn without_marks(inventory: Inventory) -> Vec<Device> {
    let devices = inventory.devices.into_iter();
    devices.map(|device| Device { undecided: FactSet::default(), ..device }).collect()
}

/// `afd run` on a free port of loopback; killed on drop.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    address: String,
    health_address: Option<String>,
}

/// An HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Header lines, in lower case.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

impl Agent {
    /// Starts a command that ends in `run` options; the address is added here.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn start(mut command: Command) -> Agent {
        command.args(["--listen", "127.0.0.1:0"]);
        let agent = Agent::start_listening(command);
        agent.until("the first inventory is complete", |agent| agent.get("/readyz").status == 200);
        agent
    }

    /// Starts a command that ends in `run` options with an address, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_listening(mut command: Command) -> Agent {
        command.stderr(Stdio::piped()).stdout(Stdio::null()).env("NO_COLOR", "1");
        let mut child = command.spawn().expect("the agent can be started");
        let mut log = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut read = String::new();
        let mut health_address = None;
        let address = loop {
            let mut line = String::new();
            let length = log.read_line(&mut line).expect("the log can be read");
            read += &line;
            assert!(length > 0, "the agent exited before it served: {read}");
            if let Some((_, address)) = line.trim_end().split_once(" health=") {
                health_address = Some(address.to_owned());
            }
            if let Some((_, address)) = line.trim_end().split_once("serving address=") {
                break address.to_owned();
            }
        };
        // Drained, so that the agent never blocks on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Agent { child, address, health_address }
    }

    /// Where it serves, `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where `--health-listen` serves.
    ///
    /// # Panics
    /// When it was started without that option.
    pub fn health_address(&self) -> &str {
        self.health_address.as_deref().expect("the agent was started with --health-listen")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A GET request.
    pub fn get(&self, path: &str) -> HttpResponse {
        self.get_with(path, "")
    }

    /// A GET request with additional header lines, each ended by `\r\n`.
    ///
    /// # Panics
    /// When there is no response.
    pub fn get_with(&self, path: &str, headers: &str) -> HttpResponse {
        Agent::request(&self.address, path, headers)
    }

    /// A GET request to another listener of an agent.
    pub fn get_from(address: &str, path: &str) -> HttpResponse {
        Agent::request(address, path, "")
    }

    /// A GET request to an agent that may not accept connections yet.
    pub fn try_get_from(address: &str, path: &str) -> Option<HttpResponse> {
        Some(Agent::request_on(TcpStream::connect(address).ok()?, path, ""))
    }

    fn request(address: &str, path: &str, headers: &str) -> HttpResponse {
        let stream = TcpStream::connect(address).expect("the agent accepts connections");
        Agent::request_on(stream, path, headers)
    }

    fn request_on(mut stream: TcpStream, path: &str, headers: &str) -> HttpResponse {
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: afd\r\nConnection: close\r\n{headers}\r\n")
            .expect("a request can be sent");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("the response is complete");
        let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a response has headers");
        let headers = String::from_utf8_lossy(&response[..end]).to_lowercase();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = response.split_off(end + 4);
        HttpResponse { status: status.expect("a response has a status"), headers, body }
    }

    /// The lines of a page that begin so.
    pub fn lines(&self, path: &str, prefix: &str) -> Vec<String> {
        self.get(path).text().lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    /// The number of lines of `/metrics` that start with a prefix.
    pub fn count(&self, prefix: &str) -> usize {
        self.get("/metrics").text().lines().filter(|line| line.starts_with(prefix)).count()
    }

    /// The value of a series of `/metrics`: its name with all labels.
    pub fn value(&self, series: &str) -> Option<f64> {
        let response = self.get("/metrics");
        response.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The child process that loads a vendor's library for the agent.
    pub fn library_process(&self) -> Option<u32> {
        library_process(self.pid())
    }

    /// The child processes that load the libraries of several vendors for the agent.
    pub fn library_processes(&self) -> Vec<u32> {
        library_processes(self.pid())
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// When it does not hold within [`TIMEOUT`].
    pub fn until(&self, what: &str, holds: impl Fn(&Agent) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id is above 0");
        kill_process(pid, Signal::TERM).expect("a child can be signalled");
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS`, `RssAnon`.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        number.expect("the kernel reports memory in kB")
    }

    /// The median duration of 20 scrapes in a row.
    ///
    /// # Panics
    /// When one fails.
    pub fn median_scrape(&self) -> Duration {
        let mut times: Vec<Duration> = (0..20)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(self.get("/metrics").status, 200);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    }

    /// The inventory that it serves.
    ///
    /// # Panics
    /// When there is none.
    pub fn inventory(&self) -> Inventory {
        serde_json::from_slice(&self.get("/inventory").body).expect("the inventory is JSON")
    }

    /// Waits until the process exits; whether it exited with success.
    ///
    /// # Panics
    /// When it does not exit within [`TIMEOUT`].
    pub fn wait(mut self) -> bool {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.success();
            }
            assert!(start.elapsed() < TIMEOUT, "the agent does not exit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The child process that loads a vendor's library for the agent with a process id.
pub fn library_process(agent: u32) -> Option<u32> {
    library_processes(agent).first().copied()
}

fn library_processes(agent: u32) -> Vec<u32> {
    // Any of its threads may have started one.
    let Ok(tasks) = fs::read_dir(format!("/proc/{agent}/task")) else { return Vec::new() };
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let children: String = children.collect::<Vec<_>>().join(" ");
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
