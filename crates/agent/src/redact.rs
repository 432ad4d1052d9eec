//! Removes serial numbers, UUIDs, MAC addresses, GUIDs and names of hosts and pods from a recording.
//!
//! Every secret is replaced by a placeholder of the same form whose digits are a counter, so that equal secrets stay equal,
//! different ones stay different, and every parser still accepts them. Secrets are recognized by the name of the file, by
//! the beginning of the line in files of many lines, by the form of a word, or by the library call; the vendor records add
//! theirs. Of units of systemd only what AFD reads of them stays.

mod pci_config;
mod rewrite;
mod unit;
mod words;

use std::collections::BTreeMap;

use afd_derive::vendors::{SecretForm, VENDORS, VendorRecord};
use afd_host::RecordedRead;
use serde_json::{Value, json};

use crate::probes;
use rewrite::{is_unset, placeholder, rewrite};

/// The replacements of one recording.
#[derive(Debug, Default)]
pub struct Redaction {
    /// The number of each secret, by its canonical form.
    numbers: BTreeMap<String, u64>,
}

impl Redaction {
    /// Finds the secrets in the files of a recording, in the order of their paths.
    pub fn new<'a>(reads: impl Iterator<Item = (&'a str, &'a RecordedRead)>) -> Redaction {
        let mut redaction = Redaction::default();
        for (path, read) in reads {
            if let RecordedRead::File(content) = read {
                rewrite(path, content, &mut |secret, form| {
                    redaction.number(canonical(secret, form));
                    secret.to_owned()
                });
            }
        }
        redaction
    }

    /// The content of a file with its secrets replaced.
    pub fn apply(&self, path: &str, content: &[u8]) -> Vec<u8> {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name == "config" {
            return pci_config::blank(content);
        }
        let has_binary = |record: &&&VendorRecord| record.redactions.binary_files.contains(&name);
        if let Some(record) = VENDORS.iter().find(has_binary) {
            return probes::blank(record.probe, content);
        }
        rewrite(path, content, &mut |secret, form| {
            let number = self.numbers.get(&canonical(secret, form)).copied().unwrap_or_default();
            match form {
                SecretForm::Decimal => number.to_string(),
                SecretForm::Text => placeholder(secret, number),
            }
        })
    }

    /// A path, or the target of a link, with the secrets in the names replaced.
    pub fn path(&mut self, path: &str) -> String {
        let mut replace = |secret: &str| self.replaced(secret);
        let names = path.split('/').map(|name| words::rewrite_name(name, &mut replace));
        names.collect::<Vec<_>>().join("/")
    }

    /// The responses of a vendor's library with their secrets replaced.
    pub fn apply_to_responses(&mut self, responses: Value) -> Value {
        match responses {
            Value::Array(responses) => Value::Array(
                responses.into_iter().map(|response| self.apply_to_responses(response)).collect(),
            ),
            Value::Object(responses) => Value::Object(
                responses
                    .into_iter()
                    .map(|(call, response)| (call.clone(), self.response(&call, response)))
                    .collect(),
            ),
            other => other,
        }
    }

    /// The response to a call, or the value of a field.
    fn response(&mut self, call: &str, response: Value) -> Value {
        let is_secret = |names: fn(&VendorRecord) -> &'static [&'static str]| {
            VENDORS.iter().any(|record| names(record).contains(&call))
        };
        match &response {
            Value::String(secret) if is_secret(|record| record.redactions.fields) => {
                json!(self.replaced(secret))
            }
            Value::Object(object) if is_secret(|record| record.redactions.calls) => match object.get("value")
            {
                Some(Value::String(secret)) => json!({ "value": self.replaced(secret) }),
                Some(Value::Number(secret)) if secret.as_u64() != Some(0) => {
                    let number = self.number(canonical(&secret.to_string(), SecretForm::Decimal));
                    json!({ "value": number })
                }
                _ => self.apply_to_responses(response),
            },
            _ => self.apply_to_responses(response),
        }
    }

    fn replaced(&mut self, secret: &str) -> String {
        if is_unset(secret) {
            return secret.to_owned();
        }
        let number = self.number(canonical(secret.trim_start_matches("0x"), SecretForm::Text));
        placeholder(secret, number)
    }

    /// The number of a secret; a new secret gets the next one.
    fn number(&mut self, canonical: String) -> u64 {
        let next = self.numbers.len() as u64 + 1;
        *self.numbers.entry(canonical).or_insert(next)
    }
}

/// The same for a number in decimal and in hexadecimal notation: files and libraries may differ in that.
fn canonical(secret: &str, form: SecretForm) -> String {
    match (form, secret.parse::<u64>()) {
        (SecretForm::Decimal, Ok(number)) => format!("{number:016x}"),
        _ => secret.to_lowercase(),
    }
}

#[cfg(test)]
mod tests;
