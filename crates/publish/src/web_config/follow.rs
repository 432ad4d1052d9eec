//! Follows the files of a web configuration, so that a renewed certificate or another password needs no restart.

use std::{path::PathBuf, sync::Arc, time::Duration};

use prometheus::IntCounter;
use tokio::sync::watch;

use super::{ContentDigest, WebConfig, WebConfigError, WebConfigSources};

/// How often the files are read. Their content is compared: Kubernetes replaces a link when a Secret changes, which no file
/// time shows.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Reads the files again and again, and sends what changes. One that cannot be used, or that protects less, leaves the
/// last one in use; it is logged and counted once.
pub async fn follow(path: PathBuf, sender: watch::Sender<Arc<WebConfig>>, errors: IntCounter) {
    let mut last = None;
    loop {
        let current = Arc::clone(&sender.borrow());
        let from = path.clone();
        // Off the serving thread: reading may block.
        let read = tokio::task::spawn_blocking(move || reload(&from, last, &current)).await;
        let Ok((digest, result)) = read else { return };
        match result {
            None => {}
            // The first reading finds what the agent was started with.
            Some(Ok(config)) => {
                if last.is_some() {
                    tracing::info!(file = %path.display(), "web configuration changed");
                }
                sender.send_replace(Arc::new(config));
            }
            Some(Err(error)) => {
                errors.inc();
                tracing::error!(
                    file = %path.display(), %error, "the new web configuration cannot be used; the last one stays in use"
                );
            }
        }
        last = Some(digest);
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
}

/// The configuration, if its files have changed since they had this digest.
fn reload(
    path: &std::path::Path,
    last: Option<ContentDigest>,
    current: &WebConfig,
) -> (ContentDigest, Option<Result<WebConfig, WebConfigError>>) {
    let (digest, sources) = WebConfigSources::read(path);
    if last == Some(digest) {
        return (digest, None);
    }
    let config = sources.and_then(WebConfigSources::build).and_then(|config| match config.lacks(current) {
        Some(what) => Err(WebConfigError::Weaker(what)),
        None => Ok(config),
    });
    (digest, Some(config))
}
