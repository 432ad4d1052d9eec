//! What the API server counts of requests about Nodes, by its own metrics.

use std::collections::BTreeMap;

use kube::Client;

const REQUESTS: &str = "apiserver_request_total";
const SENT: &str = "apiserver_response_sizes_sum";
const RECEIVED: &str = "apiserver_request_body_size_bytes_sum";

/// Requests that have ended, by their code, and bytes of bodies. Watches are counted when they end, and their events not at all.
#[derive(Debug, Default)]
pub(crate) struct ServerLoad {
    requests: BTreeMap<String, u64>,
    sent: u64,
    received: u64,
}

impl ServerLoad {
    pub(crate) async fn read(client: &Client) -> anyhow::Result<ServerLoad> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await?;
        let mut load = ServerLoad::default();
        for line in text.lines().filter(|line| line.contains("resource=\"nodes\"")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let value = value.parse::<f64>()? as u64;
            match series.split_once('{').map_or("", |(name, _)| name) {
                REQUESTS => {
                    let code = series.split("code=\"").nth(1).and_then(|rest| rest.split('"').next());
                    *load.requests.entry(code.unwrap_or_default().to_owned()).or_default() += value;
                }
                SENT => load.sent += value,
                RECEIVED => load.received += value,
                _ => {}
            }
        }
        Ok(load)
    }

    pub(crate) fn since(&self, before: &ServerLoad) -> ServerLoad {
        let requests = self.requests.iter().map(|(code, count)| {
            (code.clone(), count.saturating_sub(before.requests.get(code).copied().unwrap_or_default()))
        });
        ServerLoad {
            requests: requests.filter(|(_, count)| *count > 0).collect(),
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
        }
    }

    /// As text, with the bytes for each agent.
    pub(crate) fn per_agent(&self, agents: usize) -> String {
        let requests: u64 = self.requests.values().sum();
        let each = |number: u64| number as f64 / agents as f64;
        format!(
            "{requests} requests about Nodes ended, {:?}; for each agent {:.1} requests, {:.1} KiB received, {:.1} KiB sent",
            self.requests,
            each(requests),
            each(self.received) / 1024.0,
            each(self.sent) / 1024.0,
        )
    }
}
