//! The process that queries a vendor's library (`afd probe <vendor>`).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use afd_host::child::{Child, DroppedMessages, Launcher, RequestError};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The process, for the library at whatever path it is. There is never more than one: another path ends it, and while it has
/// not ended no other one is started.
#[derive(Debug)]
pub struct LibraryProcess {
    vendor: &'static str,
    child: Child,
    path: Option<PathBuf>,
    released: bool,
}

impl LibraryProcess {
    /// For the library of the vendor whose probe has this name.
    pub fn new(launcher: Launcher, vendor: &'static str) -> LibraryProcess {
        LibraryProcess { vendor, child: launcher.child([]), path: None, released: false }
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
        if self.path.as_ref() != Some(&path) {
            let arguments: [OsString; 4] =
                ["probe".into(), self.vendor.into(), "--library".into(), path.clone().into()];
            self.child.stop(arguments.into());
            self.path = Some(path);
        }
        serde_json::from_value(self.child.request(request, deadline)?)
            .map(Some)
            .map_err(|error| RequestError::Ended(format!("protocol error: {error}")))
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.child.events()
    }

    /// Ends the process until [`LibraryProcess::reacquire`]; the processes that have not ended.
    pub fn release(&mut self) -> Vec<u32> {
        self.released = true;
        self.child.release()
    }

    /// Allows requests again.
    pub fn reacquire(&mut self) {
        self.released = false;
        self.child.reacquire();
        self.end();
    }

    /// Whether it is released.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Ends the process; the next request starts another one.
    pub fn end(&mut self) {
        if self.path.take().is_some() {
            self.child.stop(Vec::new());
        }
    }

    /// Which process it is: a number that grows with each one that is started.
    pub fn generation(&self) -> u64 {
        self.child.starts()
    }

    /// Whether a process runs.
    pub fn is_running(&self) -> bool {
        self.child.is_running()
    }

    /// How often a process had to be started again.
    pub fn restarts(&self) -> u64 {
        self.child.restarts()
    }

    /// What was dropped of all that the processes have sent.
    pub fn dropped(&self) -> DroppedMessages {
        self.child.dropped()
    }
}
