//! A page in a real browser, headless Chromium, by its DevTools protocol over two pipes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::TIMEOUT;

/// A browser with one page; killed on drop.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    last: u64,
    session: Option<String>,
    /// What the page requested, and what failed in it.
    requests: Vec<String>,
    errors: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Browser {
        let profile = TempDir::new().expect("a temporary folder can be made");
        // Commands are read from descriptor 3, and messages are written to 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-pipe", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium is installed by `cargo xtask setup`");
        let commands = child.stdin.take().expect("it is piped");
        let messages = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut browser = Browser {
            child,
            commands,
            messages,
            last: 0,
            session: None,
            requests: Vec::new(),
            errors: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attached);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol and returns its result.
    ///
    /// # Panics
    /// When it fails.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.commands, "{message}\0").expect("the browser runs");
        self.commands.flush().expect("the browser runs");
        loop {
            let message = self.receive();
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    fn receive(&mut self) -> Value {
        let mut text = Vec::new();
        self.messages.read_until(0, &mut text).expect("the browser runs");
        assert!(text.pop() == Some(0), "the browser has ended");
        let message: Value = serde_json::from_slice(&text).expect("messages are JSON");
        let own = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.push(own(&message["params"]["request"]["url"]));
            }
            Some("Runtime.exceptionThrown") => {
                self.errors.push(message["params"]["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                self.errors.push(own(&message["params"]["entry"]["text"]));
            }
            _ => {}
        }
        message
    }

    /// Sets the size of the window, and whether it is that of a phone.
    pub fn set_size(&mut self, width: u32, height: u32, is_phone: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets the colours that the user prefers, `light` or `dark`.
    pub fn set_colors(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Opens a page, and waits until it is complete.
    pub fn open(&mut self, url: &str) {
        self.requests.clear();
        self.errors.clear();
        self.call("Page.navigate", json!({ "url": url }));
        self.until(
            "the page is complete",
            "location.href !== 'about:blank' && document.readyState === 'complete'",
        );
    }

    /// The value of an expression in the page.
    ///
    /// # Panics
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When that takes longer than [`TIMEOUT`].
    pub fn until(&mut self, what: &str, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != Value::Bool(true) {
            let text = || "document.body ? document.body.innerText : ''";
            assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}: {}", self.value(text()));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The addresses that the page has requested since it was opened.
    pub fn requests(&self) -> &[String] {
        &self.requests
    }

    /// What has failed in the page since it was opened, violations of its policy included.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Writes what the whole page looks like into a PNG file, where `AFD_SCREENSHOTS` names a folder for it.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("AFD_SCREENSHOTS") else { return };
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", parameters);
        let file = std::path::Path::new(&folder).join(format!("{name}.base64"));
        std::fs::write(file, shot["data"].as_str().unwrap_or_default()).expect("it can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
