//! Takes serial numbers, UUIDs, MAC addresses, GUIDs and host names out of a recording.
//!
//! Every secret is replaced by one of the same form whose digits are a number counted up, so that equal ones stay equal,
//! different ones stay different, and every parser still takes them. What is secret is told by the name of the file, or
//! by the name of the line in files of many lines.

use std::collections::BTreeMap;

use afd_host::RecordedRead;
use serde_json::{Value, json};

/// Files of one secret.
const SECRET_FILES: [&str; 9] = [
    "unique_id",
    "serial_number",
    "serial",
    "node_guid",
    "sys_image_guid",
    "board_id",
    "address",
    "hostname",
    "uuid",
];
/// A file of one secret that amdgpu writes in decimal.
const HIVE_FILE: &str = "xgmi_hive_id";
/// Lines of one secret: `unique_id 16404946649897475633` of KFD, in decimal, and `GPU UUID: \t GPU-...` of NVIDIA. A
/// hive's id names a machine as well.
const SECRET_LINES: [(&str, Form); 3] =
    [("unique_id", Form::Decimal), ("hive_id", Form::Decimal), ("GPU UUID", Form::Text)];

/// A ring of records that name the board in many places.
const ERROR_RECORDS: &str = "/amdgpu_ring_cper";

/// How a secret is written.
#[derive(Clone, Copy)]
enum Form {
    /// A decimal number, which another file may write in hexadecimal.
    Decimal,
    /// Whatever its characters are: a UUID, a name, hexadecimal digits.
    Text,
}

/// The replacements of one recording.
#[derive(Debug, Default)]
pub struct Redaction {
    numbers: BTreeMap<String, u64>,
}

impl Redaction {
    /// Finds the secrets of a recording, in the order of their paths.
    pub fn of<'a>(asked: impl Iterator<Item = (&'a str, &'a RecordedRead)>) -> Redaction {
        let mut redaction = Redaction::default();
        for (path, asked) in asked {
            if let RecordedRead::File(content) = asked {
                rewrite(path, content, &mut |secret, form| {
                    let next = redaction.numbers.len() as u64 + 1;
                    redaction.numbers.entry(canonical(secret, form)).or_insert(next);
                    secret.to_owned()
                });
            }
        }
        redaction
    }

    /// The answers of a vendor's library with their secrets replaced.
    pub fn apply_to_answers(&mut self, answers: Value) -> Value {
        match answers {
            Value::Array(answers) => {
                Value::Array(answers.into_iter().map(|answers| self.apply_to_answers(answers)).collect())
            }
            Value::Object(answers) => Value::Object(
                answers
                    .into_iter()
                    .map(|(call, answer)| (call.clone(), self.answer(&call, answer)))
                    .collect(),
            ),
            other => other,
        }
    }

    fn answer(&mut self, call: &str, answer: Value) -> Value {
        match &answer {
            Value::String(secret) if call == SECRET_FIELD => json!(self.replaced(secret)),
            Value::Object(object) if SECRET_CALLS.contains(&call) => match object.get("value") {
                Some(Value::String(secret)) => json!({ "value": self.replaced(secret) }),
                Some(Value::Number(secret)) => {
                    let number = self.number(canonical(&secret.to_string(), Form::Decimal));
                    json!({ "value": number })
                }
                _ => self.apply_to_answers(answer),
            },
            _ => self.apply_to_answers(answer),
        }
    }

    fn replaced(&mut self, secret: &str) -> String {
        let number = self.number(canonical(secret.trim_start_matches("0x"), Form::Text));
        placeholder(secret, number)
    }

    /// The number of a secret. One that no file of the node held gets the next.
    fn number(&mut self, canonical: String) -> u64 {
        let next = self.numbers.len() as u64 + 1;
        *self.numbers.entry(canonical).or_insert(next)
    }

    /// The content of a file with its secrets replaced.
    pub fn apply(&self, path: &str, content: &[u8]) -> Vec<u8> {
        if path.ends_with(ERROR_RECORDS) {
            return afd_amd::cper::blank(content);
        }
        rewrite(path, content, &mut |secret, form| {
            let number = self.numbers.get(&canonical(secret, form)).copied().unwrap_or_default();
            match form {
                Form::Decimal => number.to_string(),
                Form::Text => placeholder(secret, number),
            }
        })
    }
}

/// Calls of vendors' libraries that answer with a secret.
const SECRET_CALLS: [&str; 4] =
    ["nvmlDeviceGetUUID", "nvmlDeviceGetSerial", "amdsmi_get_gpu_device_uuid", "rsmi_dev_unique_id_get"];
/// A field of a struct that is a secret: AMD SMI's `amdsmi_asic_info_t`.
const SECRET_FIELD: &str = "asic_serial";

/// A number is the same secret whether a file writes it in decimal (KFD) or in hexadecimal (amdgpu's `unique_id`).
fn canonical(secret: &str, form: Form) -> String {
    match (form, secret.parse::<u64>()) {
        (Form::Decimal, Ok(number)) => format!("{number:016x}"),
        _ => secret.to_lowercase(),
    }
}

/// A content with `replace` applied to each of its secrets.
fn rewrite(path: &str, content: &[u8], replace: &mut impl FnMut(&str, Form) -> String) -> Vec<u8> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Ok(text) = str::from_utf8(content) else { return content.to_vec() };
    let form = if name == HIVE_FILE { Form::Decimal } else { Form::Text };
    if SECRET_FILES.contains(&name) || name == HIVE_FILE {
        let secret = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if secret.is_empty() {
            return content.to_vec();
        }
        return text.replacen(secret, &replace(secret, form), 1).into_bytes();
    }
    if !SECRET_LINES.iter().any(|(line, _)| text.contains(line)) {
        return content.to_vec();
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let found = SECRET_LINES
            .iter()
            .find_map(|(name, form)| line.trim_start().strip_prefix(name).map(|rest| (rest, *form)));
        match found.map(|(rest, form)| (rest.trim_matches(|c: char| c.is_whitespace() || c == ':'), form)) {
            Some((secret, form)) if !secret.is_empty() && secret != "0" => {
                line.replacen(secret, &replace(secret, form), 1)
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<String>().into_bytes()
}

/// A text of the same form: the digits of `number`, from the right, in the places of the secret's digits and lower-case
/// hexadecimal letters; all other places `0`, and what is no digit stays.
fn placeholder(secret: &str, number: u64) -> String {
    let hexadecimal = secret
        .trim_start_matches("GPU-")
        .trim_start_matches("MIG-")
        .bytes()
        .all(|b| b.is_ascii_hexdigit() || b"-:x".contains(&b));
    let mut rest = number;
    let mut characters: Vec<char> = secret.chars().collect();
    let kept = if secret.starts_with("GPU-") || secret.starts_with("MIG-") {
        4
    } else if secret.starts_with("0x") {
        2
    } else {
        0
    };
    for character in characters[kept..].iter_mut().rev() {
        let digit = character.is_ascii_digit() || (hexadecimal && character.is_ascii_hexdigit());
        if digit {
            *character = char::from_digit((rest % 10) as u32, 10).expect("a digit is below ten");
            rest /= 10;
        } else if character.is_alphabetic() {
            *character = 'x';
        }
    }
    characters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(files: &[(&str, &str)]) -> Vec<String> {
        let asked: Vec<_> =
            files.iter().map(|(path, text)| (*path, RecordedRead::File(text.as_bytes().to_vec()))).collect();
        let redaction = Redaction::of(asked.iter().map(|(path, asked)| (*path, asked)));
        files
            .iter()
            .map(|(path, text)| {
                String::from_utf8(redaction.apply(path, text.as_bytes())).expect("a text stays a text")
            })
            .collect()
    }

    #[test]
    fn secrets_keep_their_form() {
        assert_eq!(
            redacted(&[
                ("/a/serial_number", "692234000123\n"),
                ("/b/address", "3c:6d:66:1f:aa:01\n"),
                (
                    "/c/information",
                    "Model: \t Tesla T4\nGPU UUID: \t GPU-eaf23aa1-4d3d-596c-da66-b86b0e5db584\n"
                ),
                ("/d/hostname", "gpu-node-7\n"),
                ("/e/vendor", "0x10de\n"),
            ]),
            [
                "000000000001\n",
                "00:00:00:00:00:02\n",
                "Model: \t Tesla T4\nGPU UUID: \t GPU-00000000-0000-0000-0000-000000000003\n",
                "xxx-xxxx-4\n",
                "0x10de\n",
            ]
        );
    }

    #[test]
    fn error_records_name_no_board() {
        let mut ring = vec![0; 12];
        ring.extend(b"CPER\0\x01\xff\xff\xff\xff");
        ring.resize(12 + 20, 0);
        ring.extend(160_u32.to_le_bytes());
        ring.resize(12 + 140, 0);
        ring.extend(b"SERIAL-1");
        ring.resize(12 + 160, 0);
        let blank = Redaction::default().apply("/sys/kernel/debug/dri/0/amdgpu_ring_cper", &ring);
        assert_eq!(afd_amd::cper::parse(&blank), afd_amd::cper::parse(&ring));
        assert!(!String::from_utf8_lossy(&blank).contains("SERIAL"));
    }

    #[test]
    fn a_library_spells_a_secret_in_its_own_ways() {
        let unique_id = RecordedRead::File(b"afd0000000000001\n".to_vec());
        let mut redaction = Redaction::of([("/drm/unique_id", &unique_id)].into_iter());
        let told = redaction.apply_to_answers(json!({
            "amdsmi_get_gpu_asic_info": { "value": { "market_name": "MI300X", "asic_serial": "0xAFD0000000000001" } },
            "rsmi_dev_unique_id_get": { "value": 0xafd0_0000_0000_0001_u64 },
            "amdsmi_get_gpu_device_uuid": { "error": "NOT_SUPPORTED" },
        }));
        let asic = &told["amdsmi_get_gpu_asic_info"]["value"];
        assert_eq!(asic["asic_serial"], "0x0000000000000001");
        assert_eq!(asic["market_name"], "MI300X");
        assert_eq!(told["rsmi_dev_unique_id_get"]["value"], 1);
        assert_eq!(told["amdsmi_get_gpu_device_uuid"]["error"], "NOT_SUPPORTED");
    }

    #[test]
    fn the_same_secret_stays_the_same_in_decimal_and_in_hexadecimal() {
        let texts = redacted(&[
            ("/drm/unique_id", "e3aa140f9a5f9e31\n"),
            ("/kfd/properties", "simd_count 304\nunique_id 16404946649897475633\nhive_id 0\n"),
            ("/drm2/unique_id", "2250f807caf2231a\n"),
            ("/drm3/unique_id", "00000000499602d2\n"),
            ("/kfd3/properties", "unique_id 1234567890\n"),
        ]);
        assert_eq!(texts[0], "0000000000000001\n");
        assert_eq!(texts[1], "simd_count 304\nunique_id 1\nhive_id 0\n");
        assert_eq!(texts[2], "0000000000000002\n");
        assert_eq!(texts[3..], ["0000000000000003\n", "unique_id 3\n"]);
    }
}
