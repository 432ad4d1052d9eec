//! A real Prometheus.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::agent::TIMEOUT;

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    address: String,
    /// Its configuration and its data.
    folder: TempDir,
}

/// A series with its values: the time in seconds, and the value.
#[derive(Clone, Debug)]
pub struct QueriedSeries {
    /// Its labels by name.
    pub labels: std::collections::BTreeMap<String, String>,
    /// At least one.
    pub values: Vec<(f64, f64)>,
}

impl QueriedSeries {
    /// A label; empty where it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Prometheus {
    /// Starts one that scrapes an address every second.
    pub fn scraping(address: &str) -> Prometheus {
        let job = format!("- job_name: afd\n  static_configs:\n  - targets: ['{address}']\n");
        Prometheus::start(&job, None)
    }

    /// Starts one with `scrape_configs` and with rules, which scrapes and evaluates every second.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(scrape_configs: &str, rules: Option<&str>) -> Prometheus {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let mut text = "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n".to_owned();
        if let Some(rules) = rules {
            fs::write(folder.path().join("rules.yml"), rules).expect("rules can be written");
            text += "rule_files: [rules.yml]\n";
        }
        write!(text, "scrape_configs:\n{scrape_configs}").expect("a string can be written");
        let configuration = folder.path().join("prometheus.yml");
        fs::write(&configuration, text).expect("the configuration can be written");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port").to_string();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log can be made"))
            .spawn()
            .expect("prometheus is installed by `cargo xtask setup`");
        Prometheus { process, address, folder }
    }

    /// Where it serves.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The values that an expression has now, one per series; none while it does not answer.
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let series = self.instant(expression).unwrap_or_default();
        series.iter().map(|series| series.values[0].1).collect()
    }

    /// The series that an expression has now.
    ///
    /// # Errors
    /// What Prometheus says of the expression, or that it does not answer.
    pub fn instant(&self, expression: &str) -> Result<Vec<QueriedSeries>, String> {
        series(&self.api(&format!("/api/v1/query?query={}", encoded(expression)))?)
    }

    /// The series of an expression at each second from one time to another, in seconds since the epoch.
    ///
    /// # Errors
    /// What Prometheus says of the expression, or that it does not answer.
    pub fn range(&self, expression: &str, [from, to]: [f64; 2]) -> Result<Vec<QueriedSeries>, String> {
        let expression = encoded(expression);
        series(&self.api(&format!("/api/v1/query_range?query={expression}&start={from}&end={to}&step=1"))?)
    }

    /// The values of a label of the series that a selector selects.
    ///
    /// # Errors
    /// What Prometheus says of the selector, or that it does not answer.
    pub fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let data = self.api(&format!("/api/v1/label/{label}/values?match[]={}", encoded(selector)))?;
        serde_json::from_value(data).map_err(|error| error.to_string())
    }

    /// The data of a response of its API.
    fn api(&self, path: &str) -> Result<Value, String> {
        let response = self.get(path).map_err(|error| error.to_string())?;
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let mut response: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        match response["status"].as_str() {
            Some("success") => Ok(response["data"].take()),
            _ => Err(response["error"].as_str().unwrap_or(body).to_owned()),
        }
    }

    /// By HTTP 1.0, whose responses are in one piece.
    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The series of a result: a vector, a matrix or a scalar.
fn series(data: &Value) -> Result<Vec<QueriedSeries>, String> {
    let point = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    let Some(result) = data["result"].as_array() else { return Err(format!("no result: {data}")) };
    if data["resultType"] == "scalar" {
        let value = point(&data["result"]).ok_or("a scalar has a value")?;
        return Ok(vec![QueriedSeries { labels: Default::default(), values: vec![value] }]);
    }
    let series = result.iter().map(|series| {
        let labels = serde_json::from_value(series["metric"].clone()).ok()?;
        let values = series["values"]
            .as_array()
            .map_or_else(|| vec![&series["value"]], |values| values.iter().collect());
        Some(QueriedSeries { labels, values: values.into_iter().map(point).collect::<Option<_>>()? })
    });
    series.collect::<Option<_>>().ok_or_else(|| format!("not understood: {data}"))
}

/// Percent-encoded for a query of a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string can be written");
        }
    }
    encoded
}
