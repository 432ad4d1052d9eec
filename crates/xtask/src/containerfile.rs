//! What the image says of its program: the last stage of `daemonset/Containerfile`.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

/// The last stage, which is the image.
#[derive(Debug)]
pub(crate) struct ImageStage(String);

impl ImageStage {
    /// That of a source tree.
    pub(crate) fn read(root: &Path) -> anyhow::Result<ImageStage> {
        let file = root.join("daemonset/Containerfile");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        ImageStage::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<ImageStage> {
        let (_, stage) = text.rsplit_once("\nFROM scratch\n").context("the last stage is empty")?;
        Ok(ImageStage(stage.to_owned()))
    }

    /// The words after the last instruction of a name: those of a JSON list, or all of them.
    pub(crate) fn instruction(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let mut lines = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let rest = lines.next_back().with_context(|| format!("there is no {name}"))?.trim();
        match serde_json::from_str::<Value>(rest) {
            Ok(Value::Array(words)) => {
                words.iter().map(|word| Ok(word.as_str().context("a word is a string")?.to_owned())).collect()
            }
            _ => Ok(rest.split_whitespace().map(str::to_owned).collect()),
        }
    }

    /// The environment of the program: names and values.
    pub(crate) fn environment(&self) -> anyhow::Result<Vec<(String, String)>> {
        let pair = |word: String| {
            let (name, value) = word.split_once('=').with_context(|| format!("ENV {word} has no value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        self.instruction("ENV")?.into_iter().map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_a_list_or_words() {
        let text = "FROM a AS build\nUSER 3\nFROM scratch\nUSER 1:2\nEXPOSE 1 2\nENV A=1 B=2=3\n\
                    ENTRYPOINT [\"/usr/bin/afd\", \"a b\"]\n";
        let stage = ImageStage::parse(text).expect("the last stage is empty");
        let words = |name| stage.instruction(name).expect("it is there");
        assert_eq!(words("USER"), ["1:2"]);
        assert_eq!(words("EXPOSE"), ["1", "2"]);
        assert_eq!(words("ENTRYPOINT"), ["/usr/bin/afd", "a b"]);
        stage.instruction("CMD").expect_err("there is none");
        let environment = [("A", "1"), ("B", "2=3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(stage.environment().expect("both have values"), environment);
        let stage = ImageStage::parse("\nFROM scratch\nENV A\n").expect("the last stage is empty");
        stage.environment().expect_err("it has no value");
    }
}
