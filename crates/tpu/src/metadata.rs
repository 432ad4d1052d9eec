//! `/etc/tpu/tpu-env`: the metadata of a TPU machine in a file, as Google's images write it off GKE. Pure.
//!
//! Lines `KEY: 'value'`, on newer images without quotes. Two keys have another name on newer images. Unknown keys are ignored, and
//! so is a value that is none of its key: others decide by these values which devices a node has.

use afd_model::{Known, TpuSlice};

/// The file.
pub(crate) const PATH: &str = "/etc/tpu/tpu-env";

const ACCELERATOR_TYPE: [&str; 2] = ["ACCELERATOR_TYPE", "TPU_ACCELERATOR_TYPE"];
const TOPOLOGY: &str = "TOPOLOGY";
const CHIPS_PER_HOST: &str = "CHIPS_PER_HOST_BOUNDS";
const HOSTS: &str = "HOST_BOUNDS";
const WORKER: [&str; 2] = ["WORKER_ID", "TPU_WORKER_ID"];
const ICI_RESILIENCY: &str = "ENABLE_ICI_RESILIENCY";

/// The slice that the file describes; none if it says nothing of one.
pub(crate) fn parse(text: &str) -> Option<TpuSlice> {
    let one_of = |keys: &[&str]| keys.iter().find_map(|key| value(text, key));
    let slice = TpuSlice {
        accelerator_type: known(one_of(&ACCELERATOR_TYPE).filter(|name| is_type(name)).map(str::to_owned)),
        topology: known(value(text, TOPOLOGY).filter(|shape| is_shape(shape)).map(str::to_owned)),
        chips_per_host: known(value(text, CHIPS_PER_HOST).and_then(product)),
        hosts: known(value(text, HOSTS).and_then(product)),
        worker: known(one_of(&WORKER).and_then(|number| number.parse().ok())),
        ici_resiliency: known(value(text, ICI_RESILIENCY).and_then(|flag| flag.parse().ok())),
    };
    (slice != TpuSlice::default()).then_some(slice)
}

/// The lines of the file that are read: the others name the project, the zone and other machines.
pub fn blank(content: &[u8]) -> Vec<u8> {
    let keys =
        [TOPOLOGY, CHIPS_PER_HOST, HOSTS, ICI_RESILIENCY].into_iter().chain(ACCELERATOR_TYPE).chain(WORKER);
    let keys: Vec<&str> = keys.collect();
    let text = String::from_utf8_lossy(content);
    let is_read = |line: &&str| line.split_once(':').is_some_and(|(key, _)| keys.contains(&key.trim()));
    text.lines().filter(is_read).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

fn known<T>(value: Option<T>) -> Known<T> {
    value.map_or_else(Known::default, Known::Value)
}

/// The value of a key, without quotes; none if it is empty.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        (own.trim() == key).then_some(value.trim())
    })?;
    let unquoted = ['\'', '"'].into_iter().find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote));
    Some(unquoted.unwrap_or(line).trim()).filter(|value| !value.is_empty())
}

fn is_type(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `2x4` or `2x2x1`.
fn is_shape(shape: &str) -> bool {
    let mut dimensions = shape.split('x');
    (2..=3).contains(&dimensions.clone().count())
        && dimensions.all(|size| size.parse::<u16>().is_ok_and(|size| size > 0))
}

/// The product of bounds: 4 of `2,2,1`.
fn product(bounds: &str) -> Option<u32> {
    let product =
        bounds.split(',').try_fold(1_u32, |product, bound| product.checked_mul(bound.trim().parse().ok()?));
    product.filter(|product| *product > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: &str = "ACCELERATOR_TYPE: 'v4-16'\nZONE: 'us-central2-b'\nCHIPS_PER_HOST_BOUNDS: '2,2,1'\n\
                          HOST_BOUNDS: '1,1,2'\nTOPOLOGY: '2x2x2'\nWORKER_ID: '1'\nENABLE_ICI_RESILIENCY: 'false'\n";

    fn slice() -> TpuSlice {
        TpuSlice {
            accelerator_type: Known::Value("v4-16".to_owned()),
            topology: Known::Value("2x2x2".to_owned()),
            chips_per_host: Known::Value(4),
            hosts: Known::Value(2),
            worker: Known::Value(1),
            ici_resiliency: Known::Value(false),
        }
    }

    #[test]
    fn every_form_of_the_file_is_read() {
        let newer =
            QUOTED.replace("ACCELERATOR_TYPE", "TPU_ACCELERATOR_TYPE").replace("WORKER_ID", "TPU_WORKER_ID");
        for text in [
            QUOTED.to_owned(),
            QUOTED.replace('\'', ""),
            QUOTED.replace('\'', "\""),
            QUOTED.replace('\n', "\r\n"),
            newer.replace('\'', ""),
            newer,
        ] {
            assert_eq!(parse(&text), Some(slice()), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_of_its_key_is_not_known() {
        for text in [
            "",
            "\n\n",
            "garbage",
            "ZONE: 'a'",
            "TOPOLOGY:",
            "TOPOLOGY: ''",
            "TOPOLOGY: 4",
            "TOPOLOGY: 0x4",
            "TOPOLOGY: 2x2x2x2",
            "ACCELERATOR_TYPE: a b",
            "CHIPS_PER_HOST_BOUNDS: 2,0,1",
            "CHIPS_PER_HOST_BOUNDS: 65536,65536",
            "HOST_BOUNDS: x",
            "WORKER_ID: -1",
            "ENABLE_ICI_RESILIENCY: maybe",
            "# TOPOLOGY: 2x2",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_recording_has_only_the_lines_that_are_read() {
        let blanked = String::from_utf8(blank(QUOTED.as_bytes())).expect("it is text");
        assert_eq!(parse(&blanked), Some(slice()));
        assert!(!blanked.contains("us-central2"));
    }
}
