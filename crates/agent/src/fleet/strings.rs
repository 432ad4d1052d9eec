//! Strings that many Nodes have, each kept once.

use std::{collections::BTreeSet, rc::Rc};

/// A set of strings.
#[derive(Debug, Default)]
pub(super) struct SharedStrings(BTreeSet<Rc<str>>);

impl SharedStrings {
    /// The string of the set that equals a text.
    pub(super) fn get(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.0.get(text) {
            return Rc::clone(known);
        }
        let text: Rc<str> = text.into();
        self.0.insert(Rc::clone(&text));
        text
    }
}
