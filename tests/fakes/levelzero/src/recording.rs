//! The recording, and its handles.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use afd_fake_recorded::{FakeLibraryState, FakeRecording, StatusNumbers, WriteError};
use afd_intel::levelzero::{
    LevelZeroReport, STATUSES, SysmanStatus, calls,
    calls::{COMPONENTS, ComponentKind, DEVICE_CHANGING, DEVICE_CONSTANT, SysmanSource},
    layout,
};
use afd_probe::answers::Answer;
use serde_json::Value;

/// `ze_result_t`.
pub(crate) type SysmanReturn = u32;

pub(crate) const INVALID_ARGUMENT: SysmanReturn = 0x7800_0004;
const UNSUPPORTED_FEATURE: SysmanReturn = 0x7800_0003;

pub(crate) fn state() -> &'static FakeLibraryState<LevelZeroReport> {
    static STATE: OnceLock<FakeLibraryState<LevelZeroReport>> = OnceLock::new();
    STATE.get_or_init(|| {
        let statuses = StatusNumbers {
            rows: STATUSES,
            not_initialised: 0x7800_0001,
            invalid_argument: INVALID_ARGUMENT,
            insufficient_size: 0x7800_0008,
            not_supported: UNSUPPORTED_FEATURE,
        };
        FakeLibraryState::beside_library("levelzero.json", "zesInit", statuses)
    })
}

/// Starts a call.
pub(crate) fn enter(symbol: &str) -> Result<(), SysmanReturn> {
    state().enter(symbol)
}

pub(crate) fn write_failed(error: WriteError) -> SysmanReturn {
    state().write_failed(error)
}

/// How a call answers.
pub(crate) fn source_of(symbol: &str) -> Option<SysmanSource> {
    if symbol == calls::PCI_PROPERTIES.symbol {
        return Some(SysmanSource::Struct(&layout::PCI_PROPERTIES));
    }
    let of_components = COMPONENTS.iter().flat_map(|kind| kind.constant.iter().chain(kind.changing));
    let all = DEVICE_CONSTANT.iter().chain(DEVICE_CHANGING).chain(of_components);
    all.into_iter().find(|(call, _)| call.symbol == symbol).map(|(_, source)| *source)
}

/// The handle of the driver.
pub(crate) const DRIVER: usize = 1;
/// How many kinds of components there are.
pub(crate) const DEVICE_KINDS: usize = COMPONENTS.len();

/// Handles are numbers instead of pointers: the device, the kind of component and its position, a byte each, from 1 on. The handle
/// of a device has no component.
pub(crate) fn device_handle(index: usize) -> *mut c_void {
    ((index + 1) << 16) as *mut c_void
}

/// The handles of the components that a call enumerates.
pub(crate) fn component_handles(symbol: &str, device: *mut c_void) -> Result<Vec<*mut c_void>, SysmanReturn> {
    enter(symbol)?;
    let index = (device as usize >> 16).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    let recording = state().recording();
    let answers = &recording.devices.get(index).ok_or(INVALID_ARGUMENT)?.answers;
    let is_kind = |kind: &ComponentKind| kind.enumerate.symbol == symbol;
    let kind = COMPONENTS.iter().position(is_kind).ok_or(INVALID_ARGUMENT)?;
    let count = state().value(answers, symbol)?.as_u64().unwrap_or(0) as usize;
    let handle = |component: usize| (device as usize | (kind + 1) << 8 | (component + 1)) as *mut c_void;
    Ok((0..count).map(handle).collect())
}

/// The answer of a call on a device or a component. Counters have grown by one step for each earlier call.
pub(crate) fn answer(symbol: &str, handle: *mut c_void) -> Result<Value, SysmanReturn> {
    static CALLS: Mutex<BTreeMap<(String, usize), u64>> = Mutex::new(BTreeMap::new());
    enter(symbol)?;
    let index = (handle as usize >> 16).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    let recording = state().recording();
    let answers = &recording.devices.get(index).ok_or(INVALID_ARGUMENT)?.answers;
    let mut value = match (handle as usize & 0xff).checked_sub(1) {
        None => state().value(answers, symbol)?,
        Some(component) => recorded(&recording, index, symbol, component)?,
    };
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = calls.entry((symbol.to_owned(), handle as usize)).or_default();
    grow(&mut value, *earlier);
    *earlier += 1;
    Ok(value)
}

/// The answers of a call on all components of a device, by both.
type ComponentAnswers = BTreeMap<(usize, String), Vec<Answer<SysmanStatus>>>;

/// The answer of a call on a component. The answers on all components are one value of the recording, which is taken apart once.
fn recorded(
    recording: &Arc<FakeRecording<LevelZeroReport>>,
    device: usize,
    symbol: &str,
    component: usize,
) -> Result<Value, SysmanReturn> {
    static CACHE: Mutex<Option<(Arc<FakeRecording<LevelZeroReport>>, ComponentAnswers)>> = Mutex::new(None);
    let answers = &recording.devices.get(device).ok_or(INVALID_ARGUMENT)?.answers;
    if let Some(error) = state().error(answers, symbol) {
        return Err(error);
    }
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let (of, known) = cache.get_or_insert_with(|| (Arc::clone(recording), BTreeMap::new()));
    if !Arc::ptr_eq(of, recording) {
        (*of, *known) = (Arc::clone(recording), BTreeMap::new());
    }
    let parse = || answers.known(symbol).into_value().unwrap_or_default();
    match known.entry((device, symbol.to_owned())).or_insert_with(parse).get(component) {
        Some(Answer::Value(value)) => value.parse().ok_or(INVALID_ARGUMENT),
        Some(Answer::Error(status)) => Err(status.number(STATUSES).unwrap_or(UNSUPPORTED_FEATURE)),
        None => Err(UNSUPPORTED_FEATURE),
    }
}

/// Adds `steps` times what `field+` says to each field.
fn grow(value: &mut Value, steps: u64) {
    let Some(object) = value.as_object_mut() else { return };
    let growing: Vec<(String, u64)> = object
        .iter()
        .filter_map(|(name, step)| Some((name.strip_suffix('+')?.to_owned(), step.as_u64()?)))
        .collect();
    for (name, step) in growing {
        let now = object.get(&name).and_then(Value::as_u64).unwrap_or(0);
        object.insert(name, (now + step * steps).into());
    }
}
