//! The process that queries a vendor's library (`afd probe <vendor>`).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use afd_host::child::{Child, Launcher, RequestError};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The process, for the library at whatever path it is.
#[derive(Debug)]
pub struct LibraryProcess {
    launcher: Launcher,
    vendor: &'static str,
    current: Option<ProcessOfPath>,
    restarts: u64,
    /// Processes that were started for other paths, or before the last end.
    earlier: u64,
    released: bool,
}

#[derive(Debug)]
struct ProcessOfPath {
    path: PathBuf,
    child: Child,
    events: Vec<Value>,
}

impl LibraryProcess {
    /// For the library of the vendor whose probe has this name.
    pub fn new(launcher: Launcher, vendor: &'static str) -> LibraryProcess {
        LibraryProcess { launcher, vendor, current: None, restarts: 0, earlier: 0, released: false }
    }

    /// The response of the process for the library at a path. Without a path there is none, and the process ends. Another path is
    /// another library, with a process of its own: a replaced driver may have its library elsewhere.
    ///
    /// # Errors
    /// When there is no response (yet).
    pub fn request<R: DeserializeOwned>(
        &mut self,
        path: Option<PathBuf>,
        request: &'static str,
        deadline: Duration,
    ) -> Result<Option<R>, RequestError> {
        if self.released {
            return Err(RequestError::Released);
        }
        let Some(path) = path else {
            self.end();
            return Ok(None);
        };
        if self.current.as_ref().is_none_or(|current| current.path != path) {
            self.end();
            let arguments: [OsString; 4] =
                ["probe".into(), self.vendor.into(), "--library".into(), path.clone().into()];
            let child = self.launcher.child(arguments);
            self.current = Some(ProcessOfPath { path, child, events: Vec::new() });
        }
        let current = self.current.as_mut().expect("it was just found");
        let response = current.child.request(request, deadline);
        current.collect_events();
        serde_json::from_value(response?)
            .map(Some)
            .map_err(|error| RequestError::Ended(format!("protocol error: {error}")))
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.current.as_mut().map(ProcessOfPath::take_events).unwrap_or_default()
    }

    /// Whether events have arrived since [`LibraryProcess::events`].
    pub fn has_events(&mut self) -> bool {
        self.current.as_mut().is_some_and(|current| {
            current.collect_events();
            !current.events.is_empty()
        })
    }

    /// Ends the process until [`LibraryProcess::reacquire`]; whether it has ended.
    pub fn release(&mut self) -> bool {
        self.released = true;
        self.current.as_mut().is_none_or(|current| current.child.release())
    }

    /// Allows requests again.
    pub fn reacquire(&mut self) {
        self.released = false;
        self.end();
    }

    /// Whether it is released.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Ends the process; the next request starts another one.
    pub fn end(&mut self) {
        if let Some(current) = self.current.take() {
            self.restarts += current.child.restarts();
            self.earlier += current.child.starts();
        }
    }

    /// Which process it is: a number that grows with each one that is started.
    pub fn generation(&self) -> u64 {
        self.earlier + self.current.as_ref().map_or(0, |current| current.child.starts())
    }

    /// Whether a process runs.
    pub fn is_running(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.child.is_running())
    }

    /// How often a process had to be started again.
    pub fn restarts(&self) -> u64 {
        self.restarts + self.current.as_ref().map_or(0, |current| current.child.restarts())
    }
}

impl ProcessOfPath {
    fn collect_events(&mut self) {
        self.events.extend(self.child.events());
    }

    fn take_events(&mut self) -> Vec<Value> {
        self.collect_events();
        std::mem::take(&mut self.events)
    }
}
