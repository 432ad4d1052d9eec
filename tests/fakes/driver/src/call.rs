//! One system call of the program: its arguments, which are in the memory of the program, and the answer in the recording.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use serde_json::Value;

use crate::{FakeDriver, ffi::HandedOverCall};

/// A system call.
pub(crate) struct DriverCall<'a> {
    driver: &'a FakeDriver,
    process: u32,
    pub(crate) arguments: [u64; 6],
    /// The recording.
    pub(crate) recording: Value,
    memory: File,
}

impl DriverCall<'_> {
    pub(crate) fn new<'a>(driver: &'a FakeDriver, call: &HandedOverCall) -> Result<DriverCall<'a>, Errno> {
        let text = fs::read(&driver.recording).expect("the recording can be read");
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", call.process));
        Ok(DriverCall {
            driver,
            process: call.process,
            arguments: call.arguments,
            recording: serde_json::from_slice(&text).expect("it is a recording"),
            memory: memory.map_err(|_| Errno::IO)?,
        })
    }

    /// The request of an ioctl.
    pub(crate) fn request(&self) -> u32 {
        self.arguments[1] as u32
    }

    /// The address of the argument of an ioctl.
    pub(crate) fn argument(&self) -> u64 {
        self.arguments[2]
    }

    /// The file that stands for the node of an ioctl.
    pub(crate) fn node(&self) -> Result<PathBuf, Errno> {
        let descriptor = format!("/proc/{}/fd/{}", self.process, self.arguments[0]);
        fs::read_link(descriptor).map_err(|_| Errno::IO)
    }

    /// The host root of the program.
    pub(crate) fn host_root(&self) -> &Path {
        &self.driver.host_root
    }

    /// Bytes of the program's memory.
    pub(crate) fn read<const BYTES: usize>(&self, address: u64) -> Result<[u8; BYTES], Errno> {
        let mut bytes = [0; BYTES];
        self.memory.read_exact_at(&mut bytes, address).map_err(|_| Errno::FAULT)?;
        Ok(bytes)
    }

    /// Writes into the program's memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.memory.write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    /// The PCI address of the device that has this below its directory in sysfs.
    pub(crate) fn device_with(&self, below: &str) -> Result<String, Errno> {
        let functions = fs::read_dir(self.driver.host_root.join("sys/bus/pci/devices"));
        let paths = functions.map_err(|_| Errno::NOTTY)?.filter_map(|function| Some(function.ok()?.path()));
        let own = paths.into_iter().find(|path| path.join(below).exists()).ok_or(Errno::NOTTY)?;
        let name = own.file_name().and_then(|name| name.to_str());
        Ok(name.expect("an address is UTF-8").to_owned())
    }

    /// The value that the recording has of a device for a call.
    pub(crate) fn answer(&self, address: &str, call: &str) -> Result<Value, Errno> {
        let devices = self.recording["devices"].as_array().into_iter().flatten();
        let of_device = |device: &&Value| device["answers"]["pci_address"]["value"] == address;
        let answer = &devices.into_iter().find(of_device).ok_or(Errno::NODEV)?["answers"][call];
        if let Some(name) = answer["error"].as_str() {
            let row = self.driver.kind.errors.iter().find(|row| row.1 == name);
            return Err(row.map_or(Errno::IO, |row| Errno::from_raw_os_error(row.0 as i32)));
        }
        answer.get("value").cloned().ok_or(Errno::INVAL)
    }

    /// Whether a call of this name does not return.
    pub(crate) fn hangs(&self, call: &str) -> bool {
        self.recording["hang"].as_array().is_some_and(|calls| calls.iter().any(|hanging| hanging == call))
    }
}
