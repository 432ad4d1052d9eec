//! The runtime within a workload: gRPC, service `tpu.monitoring.runtime.RuntimeMetricService` of `tpu_metric_service.proto`
//! (AI-Hypercomputer/cloud-accelerator-diagnostics), with the fields that are read.
//!
//! The runtime reports what it supports, as GKE's device plugin asks for it too. How many devices it has decides whether a value is
//! one of a chip or of a core (`holding`): both occur. An idle runtime has no value.

use std::{net::SocketAddr, time::Duration};

use prost::Message;

use crate::report::{RuntimeQuantity, RuntimeValue};

const SUPPORTED: &str = "/tpu.monitoring.runtime.RuntimeMetricService/ListSupportedMetrics";
const METRIC: &str = "/tpu.monitoring.runtime.RuntimeMetricService/GetRuntimeMetric";

/// What is read of a runtime.
const METRICS: [(&str, RuntimeQuantity); 4] = [
    ("tpu.runtime.tensorcore.dutycycle.percent", RuntimeQuantity::DutyCycle),
    ("tpu.runtime.hbm.memory.usage.bytes", RuntimeQuantity::MemoryUsed),
    ("tpu.runtime.hbm.memory.total.bytes", RuntimeQuantity::MemoryTotal),
    ("tpu.runtime.hbm.utilization.percent", RuntimeQuantity::BandwidthUtilization),
];
/// No runtime has more devices.
const MAX_DEVICES: usize = 64;

/// A connection to a runtime. The program that starts the process has a client for it; this crate has none.
pub trait RuntimeConnection {
    /// The response to a request, both as protobuf messages.
    ///
    /// # Errors
    /// When there is no response in time, or one that is an error.
    fn call(&mut self, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, RuntimeCallError>;
}

/// Connects to an address; the time is for the connection and all calls over it.
pub type ConnectRuntime = fn(SocketAddr, Duration) -> Result<Box<dyn RuntimeConnection>, RuntimeCallError>;

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeCallError {
    /// Nothing listens at the address.
    #[error("nothing listens")]
    Absent,
    /// The runtime did not respond in time.
    #[error("it does not answer in time")]
    Late,
    /// The runtime has no such method.
    #[error("it has no such method")]
    Unimplemented,
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

/// The values of a runtime.
///
/// # Errors
/// When a call fails, or a response is none of the protocol or does not say of which device a value is.
pub fn read(connection: &mut dyn RuntimeConnection) -> Result<Vec<RuntimeValue>, RuntimeCallError> {
    let supported = match connection.call(SUPPORTED, Vec::new()) {
        Ok(message) => Some(decode::<SupportedMetrics>(&message)?.supported),
        // An older runtime has the metrics alone.
        Err(RuntimeCallError::Unimplemented) => None,
        Err(error) => return Err(error),
    };
    let is_supported =
        |name: &str| supported.as_ref().is_none_or(|all| all.iter().any(|own| own.name == name));
    let mut values = Vec::new();
    for (name, quantity) in METRICS.into_iter().filter(|(name, _)| is_supported(name)) {
        let request = MetricRequest { name: name.to_owned() };
        let response: MetricResponse = decode(&connection.call(METRIC, request.encode_to_vec())?)?;
        let metrics = response.metric.unwrap_or_default().metrics;
        if metrics.len() > MAX_DEVICES {
            return Err(RuntimeCallError::Failed(format!("it reports more than {MAX_DEVICES} devices")));
        }
        for metric in metrics {
            values.push(metric.value(quantity).ok_or_else(|| {
                RuntimeCallError::Failed(format!("it reports {name} of a device without a number"))
            })?);
        }
    }
    Ok(values)
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, RuntimeCallError> {
    M::decode(message)
        .map_err(|_| RuntimeCallError::Failed("its response is not a message of the protocol".to_owned()))
}

#[derive(Clone, PartialEq, Message)]
struct MetricRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct MetricResponse {
    #[prost(message, optional, tag = "1")]
    metric: Option<RuntimeMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeMetric {
    #[prost(message, repeated, tag = "3")]
    metrics: Vec<DeviceMetric>,
}

/// The value of one device.
#[derive(Clone, PartialEq, Message)]
struct DeviceMetric {
    #[prost(message, optional, tag = "1")]
    attribute: Option<MetricAttribute>,
    #[prost(message, optional, tag = "3")]
    gauge: Option<RuntimeGauge>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricAttribute {
    #[prost(message, optional, tag = "2")]
    value: Option<AttributeValue>,
}

/// The number of a device: an integer, or text in some versions.
#[derive(Clone, PartialEq, Message)]
struct AttributeValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    integer: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeGauge {
    #[prost(double, optional, tag = "1")]
    double: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    integer: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct SupportedMetrics {
    #[prost(message, repeated, tag = "1")]
    supported: Vec<SupportedMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct SupportedMetric {
    #[prost(string, tag = "1")]
    name: String,
}

impl DeviceMetric {
    /// The value, or that there is none; `None` if the device has no number. How many devices a runtime has decides whose the
    /// values are, so that none may be left out.
    fn value(self, quantity: RuntimeQuantity) -> Option<RuntimeValue> {
        let number = self.attribute?.value?;
        let of_text = || number.text.as_ref()?.trim().parse().ok();
        let device = number.integer.and_then(|number| u64::try_from(number).ok()).or_else(of_text)?;
        let number = |gauge: RuntimeGauge| gauge.double.or(gauge.integer.map(|integer| integer as f64));
        let value = self.gauge.and_then(number).filter(|value| value.is_finite());
        Some(RuntimeValue { quantity, container: None, device, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime that answers with these bytes.
    #[derive(Default)]
    struct Answers {
        supported: Option<Vec<u8>>,
        duty_cycle: Vec<u8>,
        asked: Vec<String>,
    }

    impl RuntimeConnection for Answers {
        fn call(&mut self, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, RuntimeCallError> {
            if path == SUPPORTED {
                return self.supported.clone().ok_or(RuntimeCallError::Unimplemented);
            }
            let request = MetricRequest::decode(message.as_slice()).expect("it is a request");
            let is_duty_cycle = request.name.ends_with("dutycycle.percent");
            self.asked.push(request.name);
            Ok(if is_duty_cycle { self.duty_cycle.clone() } else { Vec::new() })
        }
    }

    /// A field with a length: its tag, the length as a varint, and its content.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
        bytes
    }

    fn device(attribute: &[u8], gauge: &[u8]) -> Vec<u8> {
        let attribute = [field(1, b"device-id"), field(2, attribute)].concat();
        field(3, &[field(1, &attribute), field(2, &[0x08, 1]), field(3, gauge)].concat())
    }

    fn double(value: f64) -> Vec<u8> {
        [&[0x09][..], &value.to_le_bytes()].concat()
    }

    #[test]
    fn devices_are_numbered_by_integers_or_text_and_values_are_of_either_type() {
        let metrics = [
            device(&[0x18, 4], &double(12.5)),
            device(&field(1, b"5"), &[0x10, 50]),
            device(&[0x18, 7], &[]),
        ];
        let metric = [field(1, b"name"), metrics.concat(), device(&[0x18, 6], &double(f64::NAN))].concat();
        let mut runtime = Answers { duty_cycle: field(1, &metric), ..Answers::default() };
        let values = read(&mut runtime).expect("it answers");
        let read: Vec<_> = values.iter().map(|value| (value.device, value.value)).collect();
        // A device without a value is counted.
        assert_eq!(read, [(4, Some(12.5)), (5, Some(50.0)), (7, None), (6, None)]);
        assert_eq!(runtime.asked.len(), METRICS.len(), "an older runtime is asked for all");
    }

    #[test]
    fn a_device_without_a_number_is_an_error() {
        for attribute in
            [Vec::new(), field(1, b"x"), vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]
        {
            let metrics = [device(&[0x18, 4], &double(12.5)), device(&attribute, &double(1.0))].concat();
            let mut runtime = Answers { duty_cycle: field(1, &metrics), ..Answers::default() };
            let error = read(&mut runtime).expect_err("whose values these are is not certain");
            assert!(error.to_string().ends_with("of a device without a number"), "{error}");
        }
    }

    #[test]
    fn only_what_is_supported_is_asked_for_and_garbage_is_an_error() {
        let supported = field(1, &field(1, b"tpu.runtime.tensorcore.dutycycle.percent"));
        let mut runtime = Answers { supported: Some(supported), ..Answers::default() };
        assert_eq!(read(&mut runtime).expect("it answers"), []);
        assert_eq!(runtime.asked, ["tpu.runtime.tensorcore.dutycycle.percent"]);
        runtime.duty_cycle = vec![0xff; 32];
        assert!(matches!(read(&mut runtime), Err(RuntimeCallError::Failed(_))));
        runtime.duty_cycle = field(1, &device(&[0x18, 4], &double(1.0)).repeat(MAX_DEVICES + 1));
        assert!(read(&mut runtime).is_err());
    }
}
