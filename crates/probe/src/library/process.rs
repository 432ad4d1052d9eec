//! The process that queries a vendor's library (`afd probe <vendor>`).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use afd_host::child::{Child, DroppedMessages, Launcher, RequestError};
use afd_model::DeviceId;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The process, for the library at whatever path it is. There is never more than one: another source ends it, and while it has
/// not ended no other one is started.
#[derive(Debug)]
pub struct LibraryProcess {
    vendor: &'static str,
    child: Child,
    source: Option<QueriedSource>,
    released: bool,
}

/// What the process queries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum QueriedSource {
    /// The library at a path, and the driver for what the library does not report.
    Library(PathBuf, DriverInterfaces),
    /// The driver itself.
    Driver(DriverInterfaces),
}

/// Device nodes of the driver, each with its device.
pub type DeviceNodes = Vec<(DeviceId, PathBuf)>;

/// By what the driver can be queried.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DriverInterfaces {
    /// Device nodes.
    pub nodes: DeviceNodes,
    /// Counters of the kernel (`perf_event_open`), each with its device, described as the vendor's process understands it.
    pub counters: Vec<(DeviceId, String)>,
}

impl DriverInterfaces {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.counters.is_empty()
    }

    /// Drops those of some devices.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&DeviceId) -> bool) {
        self.nodes.retain(|(device, _)| is_kept(device));
        self.counters.retain(|(device, _)| is_kept(device));
    }

    /// The devices that have one.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        let counted = self.counters.iter().map(|(device, _)| *device);
        self.nodes.iter().map(|(device, _)| *device).chain(counted)
    }
}

impl QueriedSource {
    fn arguments(&self, vendor: &'static str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["probe".into(), vendor.into()];
        let driver = match self {
            QueriedSource::Library(path, driver) => {
                arguments.extend(["--library".into(), path.into()]);
                driver
            }
            QueriedSource::Driver(driver) => driver,
        };
        arguments.extend(driver.nodes.iter().flat_map(|(device, path)| {
            let mut value = OsString::from(format!("{device}="));
            value.push(path);
            ["--node".into(), value]
        }));
        arguments.extend(driver.counters.iter().flat_map(|(device, description)| {
            ["--counters".into(), format!("{device}={description}").into()]
        }));
        arguments
    }
}

impl LibraryProcess {
    /// For the library of the vendor whose probe has this name.
    pub fn new(launcher: Launcher, vendor: &'static str) -> LibraryProcess {
        LibraryProcess { vendor, child: launcher.child([]), source: None, released: false }
    }

    /// The response of the process for a source. Without one there is none, and the process ends. Another source has a process of
    /// its own: a replaced driver may have its library elsewhere.
    ///
    /// # Errors
    /// When there is no response (yet).
    pub fn request<R: DeserializeOwned>(
        &mut self,
        source: Option<QueriedSource>,
        request: &'static str,
        deadline: Duration,
    ) -> Result<Option<R>, RequestError> {
        if self.released {
            return Err(RequestError::Released);
        }
        let Some(source) = source else {
            self.end();
            return Ok(None);
        };
        if self.source.as_ref() != Some(&source) {
            self.child.stop(source.arguments(self.vendor));
            self.source = Some(source);
        }
        self.child.request(request, deadline).map(Some)
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
        if self.source.take().is_some() {
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
