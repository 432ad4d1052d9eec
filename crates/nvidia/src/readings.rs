//! NVML's moving values to readings, in base units. A call that gave no value gives no reading.

use afd_model::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, Known, LinkCounter, NvidiaQuantity, PartitionId,
    PartitionName, PciAddress, Quantity, Reading, Rows, Sample, Sampling, Sensor, ThrottleCause,
};
use serde_json::Value;

use crate::{
    health,
    incidents::Incidents,
    interpret::number,
    nvml::{
        LICENCES,
        answers::{Answers, DeviceReport},
        field, of, of_two,
    },
    xid,
};

const MEBIBYTE: f64 = (1_u64 << 20) as f64;
/// Bits of `nvmlClocksEventReasons`.
const THROTTLING: [(u64, ThrottleCause); 5] = [
    (0x4, ThrottleCause::Power),
    (0x8, ThrottleCause::Hardware),
    (0x20, ThrottleCause::Thermal),
    (0x40, ThrottleCause::HardwareThermal),
    (0x80, ThrottleCause::PowerBrake),
];

/// Adds the samples of a GPU and of its MIG devices.
pub(crate) fn add(sampling: &mut Sampling, address: PciAddress, told: &DeviceReport, incidents: &Incidents) {
    let mut readings = whole(&told.answers);
    for (number, count) in incidents.xids(address) {
        let quantity = Quantity::Errors(ErrorKind::Xid, ErrorDetail::Number(number));
        readings.push(Reading { quantity, value: count as f64 });
    }
    let last = incidents.last_xid(address).unwrap_or(0);
    readings.push(Reading { quantity: last_xid(last), value: f64::from(last) });
    match sampling.samples.iter_mut().find(|sample| sample.unit == address.into()) {
        Some(sample) => sample.readings.extend(readings),
        None => sampling.samples.push(Sample { unit: address.into(), readings }),
    }
    for answers in told.mig.iter().flatten() {
        let (Known::Value(gpu_instance), Known::Value(compute_instance)) =
            (answers.known("nvmlDeviceGetGpuInstanceId"), answers.known("nvmlDeviceGetComputeInstanceId"))
        else {
            continue;
        };
        let mut readings = memory(answers);
        readings.extend(gpm(answers));
        // A MIG device has no utilisation of its own; what GPM counts of its graphics engine is the share of its time.
        if let Some(share) = number(answers, &of("nvmlGpmMetricsGet", 1)) {
            readings.push(Reading { quantity: Quantity::Utilization(Engine::Compute), value: share / 100.0 });
        }
        if !readings.is_empty() {
            let name = PartitionName::Mig { gpu_instance, compute_instance };
            let unit = PartitionId { device: address.into(), name }.into();
            sampling.samples.push(Sample { unit, readings });
        }
    }
}

/// The quantity of the last XID, 0 while there was none.
fn last_xid(number: u32) -> Quantity {
    let meaning = xid::find(number).map_or("", |xid| xid.meaning);
    NvidiaQuantity::LastXid { meaning }.into()
}

/// One reading, if the call gave a number, in units of `unit`.
fn one(answers: &Answers, call: &str, quantity: Quantity, unit: f64) -> Option<Reading> {
    number(answers, call).map(|value| Reading { quantity, value: value * unit })
}

fn one_field(answers: &Answers, call: &str, field: &str, quantity: Quantity, unit: f64) -> Option<Reading> {
    let value = answers.field::<f64>(call, field).into_value()?;
    Some(Reading { quantity, value: value * unit })
}

fn whole(answers: &Answers) -> Vec<Reading> {
    let utilization =
        |engine, call, field| one_field(answers, call, field, Quantity::Utilization(engine), 0.01);
    let rates = "nvmlDeviceGetUtilizationRates";
    let clock = |clock: u32| of("nvmlDeviceGetClockInfo", clock);
    let violation = |policy: u32| of("nvmlDeviceGetViolationStatus", policy);
    let rows = |rows, field| {
        one_field(answers, "nvmlDeviceGetRemappedRows", field, Quantity::RowsRemapped(rows), 1.0)
    };
    let ecc = |kind, number| {
        one(
            answers,
            &of_two("nvmlDeviceGetTotalEccErrors", number, 0),
            Quantity::Errors(kind, ErrorDetail::Device),
            1.0,
        )
    };
    let nvlink = |direction, id| {
        let quantity = Quantity::LinkBytes(LinkCounter::Nvlink, direction);
        one(answers, &field(id, u32::MAX), quantity, 1024.0)
    };
    let mut readings: Vec<Reading> = [
        utilization(Engine::Compute, rates, "gpu"),
        utilization(Engine::Memory, rates, "memory"),
        utilization(Engine::Encode, "nvmlDeviceGetEncoderUtilization", "utilization"),
        utilization(Engine::Decode, "nvmlDeviceGetDecoderUtilization", "utilization"),
        utilization(Engine::Jpeg, "nvmlDeviceGetJpgUtilization", "utilization"),
        utilization(Engine::Ofa, "nvmlDeviceGetOfaUtilization", "utilization"),
        one(answers, "nvmlDeviceGetPowerUsage", Quantity::PowerWatts, 1e-3),
        one(answers, "nvmlDeviceGetEnforcedPowerLimit", Quantity::PowerLimitWatts, 1e-3),
        one(answers, "nvmlDeviceGetTotalEnergyConsumption", Quantity::EnergyJoules, 1e-3),
        one(answers, &of("nvmlDeviceGetTemperature", 0), Quantity::TemperatureCelsius(Sensor::Gpu), 1.0),
        one(answers, &field(82, 0), Quantity::TemperatureCelsius(Sensor::Memory), 1.0),
        one(answers, &clock(1), Quantity::ClockHertz(Clock::Compute), 1e6),
        one(answers, &clock(2), Quantity::ClockHertz(Clock::Memory), 1e6),
        one(answers, &clock(3), Quantity::ClockHertz(Clock::Media), 1e6),
        one(
            answers,
            "nvmlDeviceGetPcieReplayCounter",
            Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device),
            1.0,
        ),
        ecc(ErrorKind::EccCorrectable, 0),
        ecc(ErrorKind::EccUncorrectable, 1),
        rows(Rows::Correctable, "corrRows"),
        rows(Rows::Uncorrectable, "uncRows"),
        rows(Rows::Pending, "isPending"),
        rows(Rows::Failed, "failureOccurred"),
        // NVML counts nanoseconds.
        one_field(
            answers,
            &violation(0),
            "violationTime",
            Quantity::ThrottleSeconds(ThrottleCause::Power),
            1e-9,
        ),
        one_field(
            answers,
            &violation(1),
            "violationTime",
            Quantity::ThrottleSeconds(ThrottleCause::Thermal),
            1e-9,
        ),
        // NVML counts KiB.
        nvlink(Direction::Transmit, 138),
        nvlink(Direction::Receive, 139),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(reasons) = health::throttle_reasons(answers) {
        readings.extend(THROTTLING.map(|(bit, cause)| Reading {
            quantity: Quantity::Throttled(cause),
            value: f64::from(u8::from(reasons & bit != 0)),
        }));
    }
    readings.extend(memory(answers));
    readings.extend(licence(answers));
    readings.extend(gpm(answers));
    readings
}

/// Whether a vGPU has the licence of any of its features (`nvmlGridLicensableFeatures_t`).
fn licence(answers: &Answers) -> Option<Reading> {
    let told: Value = answers.known(LICENCES).into_value()?;
    let features = told["gridLicensableFeatures"].as_array()?;
    if told["isGridLicenseSupported"] == 0 || features.is_empty() {
        return None;
    }
    let licensed = features.iter().any(|feature| feature["featureState"].as_u64().is_some_and(|s| s != 0));
    Some(Reading { quantity: NvidiaQuantity::VgpuLicensed.into(), value: f64::from(u8::from(licensed)) })
}

/// Version 2 tells what the driver keeps for itself apart from what programs use; version 1 counts both as used.
fn memory(answers: &Answers) -> Vec<Reading> {
    let call = "nvmlDeviceGetMemoryInfo_v2";
    [("used", Quantity::MemoryUsedBytes), ("reserved", Quantity::MemoryReservedBytes)]
        .into_iter()
        .filter_map(|(field, quantity)| one_field(answers, call, field, quantity, 1.0))
        .chain(one_field(answers, "nvmlDeviceGetMemoryInfo", "used", Quantity::MemoryUsedBytes, 1.0).filter(
            |_| {
                answers
                    .get(call)
                    .is_none_or(|answer| matches!(answer, crate::nvml::answers::Answer::Error(_)))
            },
        ))
        .collect()
}

/// What GPM counted between the last two samples.
fn gpm(answers: &Answers) -> Vec<Reading> {
    [
        (1, Quantity::Utilization(Engine::Graphics), 0.01),
        (2, Quantity::Utilization(Engine::Sm), 0.01),
        (5, Quantity::Utilization(Engine::Tensor), 0.01),
        (10, Quantity::MemoryBandwidthRatio, 0.01),
        (20, Quantity::PcieBytesPerSecond(Direction::Transmit), MEBIBYTE),
        (21, Quantity::PcieBytesPerSecond(Direction::Receive), MEBIBYTE),
    ]
    .into_iter()
    .filter_map(|(id, quantity, unit)| one(answers, &of("nvmlGpmMetricsGet", id), quantity, unit))
    .collect()
}
