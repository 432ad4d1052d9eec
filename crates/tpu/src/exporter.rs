//! The exporter of GKE's TPU device plugin: Prometheus' text format, port 2112 of the node, `/metrics`. Pure.
//!
//! Read are the families with the labels of a pod. Those of the node (`_node`) repeat them under other numbers, and the plugin's
//! counters add up values that are cumulative already. GKE's plugin for GPUs serves the same names on the same port (`make`).

use crate::report::{RuntimeContainer, RuntimeQuantity, RuntimeValue};

/// How many values are read: a pod has five families that are read, of at most 16 devices.
const MAX_VALUES: usize = 4096;
const MAKE: &str = "cloud-tpu";

/// The values of an exposition.
///
/// # Errors
/// When it is none, or has more values than any node.
pub fn parse(text: &str) -> Result<Vec<RuntimeValue>, String> {
    let mut values = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let series =
            Series::parse(line).ok_or_else(|| "its response is not in Prometheus' text format".to_owned())?;
        let Some(value) = series.value()? else { continue };
        if values.len() == MAX_VALUES {
            return Err(format!("it sends more than {MAX_VALUES} values"));
        }
        values.push(value);
    }
    Ok(values)
}

fn quantity(family: &str) -> Option<RuntimeQuantity> {
    Some(match family {
        "duty_cycle" => RuntimeQuantity::DutyCycle,
        "memory_used" => RuntimeQuantity::MemoryUsed,
        "memory_total" => RuntimeQuantity::MemoryTotal,
        "tensorcore_utilization" => RuntimeQuantity::TensorUtilization,
        "memory_bandwidth_utilization" => RuntimeQuantity::BandwidthUtilization,
        _ => return None,
    })
}

/// One line: a family, its labels and a value.
struct Series<'t> {
    family: &'t str,
    labels: Vec<(&'t str, String)>,
    value: f64,
}

impl<'t> Series<'t> {
    fn parse(line: &'t str) -> Option<Series<'t>> {
        let end = line.find(['{', ' ', '\t'])?;
        let (family, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        // A time stamp may follow.
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Series { family, labels, value })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// Its value, if it is one of a pod's device. A device without a number is an error: how many devices a container has decides
    /// whose the values of the others are.
    fn value(&self) -> Result<Option<RuntimeValue>, String> {
        let Some((quantity, container)) = quantity(self.family).zip(self.container()) else {
            return Ok(None);
        };
        if self.label("make") != Some(MAKE) {
            return Ok(None);
        }
        // `<id of the machine>-<number of the device>`
        let number = self.label("accelerator_id").and_then(|id| id.rsplit_once('-')?.1.parse().ok());
        let device =
            number.ok_or_else(|| format!("it reports {} of a device without a number", self.family))?;
        let value = Some(self.value).filter(|value| value.is_finite());
        Ok(Some(RuntimeValue { quantity, container: Some(container), device, value }))
    }

    fn container(&self) -> Option<RuntimeContainer> {
        let name = |label| self.label(label).filter(|value| !value.is_empty()).map(str::to_owned);
        Some(RuntimeContainer {
            namespace: name("namespace")?,
            pod: name("pod")?,
            container: name("container")?,
        })
    }
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once('=')?;
        let (value, after) = quoted(value.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// A label's value after its opening quote, and what follows the closing one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_POD: &str = r#"namespace="ml",pod="train-0",container="main",make="cloud-tpu",model="tpu7x",tpu_topology="2x2x1""#;

    fn line(family: &str, id: &str, value: &str) -> String {
        format!("{family}{{accelerator_id=\"{id}\",{OF_POD}}} {value}\n")
    }

    #[test]
    fn values_of_a_pods_devices_are_read() {
        let text = format!(
            "# HELP duty_cycle x\n# TYPE duty_cycle gauge\n{}{}\n",
            line("duty_cycle", "4711-4", "12.5"),
            line("memory_used", "4711-5", "2.03465670656e+11 1700000000000"),
        );
        let values = parse(&text).expect("it is an exposition");
        let read: Vec<_> = values.iter().map(|value| (value.quantity, value.device, value.value)).collect();
        let expected = [
            (RuntimeQuantity::DutyCycle, 4, Some(12.5)),
            (RuntimeQuantity::MemoryUsed, 5, Some(203_465_670_656.0)),
        ];
        assert_eq!(read, expected);
        assert_eq!(values[0].container.as_ref().map(|container| container.pod.as_str()), Some("train-0"));
    }

    #[test]
    fn what_is_not_of_a_pods_tpu_is_left_out() {
        for text in [
            line("duty_cycle_node", "4711-4", "1"),
            line("grpc_tcp_packets_sent_count", "4711-4", "1"),
            line("duty_cycle", "4711-4", "1").replace("cloud-tpu", "other"),
            line("duty_cycle", "4711-4", "1").replace("train-0", ""),
            "go_goroutines 7\n".to_owned(),
        ] {
            assert_eq!(parse(&text), Ok(Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_device_without_a_value_is_counted_and_one_without_a_number_is_an_error() {
        for value in ["NaN", "+Inf", "-Inf"] {
            let values = parse(&line("duty_cycle", "4711-4", value)).expect("it is an exposition");
            assert_eq!((values[0].device, values[0].value), (4, None), "{value}");
        }
        for id in ["4711-x", "4711", ""] {
            let error = parse(&line("duty_cycle", id, "1")).expect_err("it has no number");
            assert_eq!(error, "it reports duty_cycle of a device without a number", "{id}");
        }
    }

    #[test]
    fn quotes_and_braces_in_a_label_do_not_end_it() {
        let text = line("duty_cycle", "4711-4", "1").replace("train-0", r#"a\\b\"} c\n,"#);
        let values = parse(&text).expect("it is an exposition");
        assert_eq!(
            values[0].container.as_ref().map(|container| container.pod.as_str()),
            Some("a\\b\"} c\n,")
        );
    }

    #[test]
    fn garbage_and_too_much_are_errors() {
        for text in ["<html>", "duty_cycle{accelerator_id=\"", "duty_cycle{a} 1", "duty_cycle{} x", "\u{0}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&line("duty_cycle", "4711-4", "1").repeat(MAX_VALUES + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = parse(&text);
        }
    }
}
