//! One row per sampled value of a library: the call, the quantity, the unit and the range, written once.
//!
//! The querying process walks the rows and makes their calls ([`query`]); the interpreter walks the same rows and finds the
//! readings ([`LibraryRow::reading`]). A row that is misspelt fails in both, and is then missing in the first test.

use afd_model::{Missing, Quantity, Reading};
use serde_json::Value;

use crate::answers::{Answers, LibraryCall};

/// One value that a library reports.
#[derive(Clone, Copy, Debug)]
pub struct LibraryRow<S> {
    /// The call.
    pub call: LibraryCall,
    /// How the querying process makes the call: a function of the vendor's, or what a batched call needs.
    pub source: S,
    /// The field of the struct that the call fills; none where it fills a number.
    pub field: Option<&'static str>,
    /// What is read.
    pub quantity: Quantity,
    /// The unit of the library, and its range.
    pub scale: ValueScale,
}

/// How a number of a library becomes a reading in the unit of its quantity, and which numbers are no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueScale {
    /// Multiplies the number.
    pub times: f64,
    /// Divides it.
    pub per: f64,
    /// The greatest number that is a value. All ones, with which libraries fill what they do not know, are above it.
    pub max: f64,
}

impl ValueScale {
    /// The unit of the quantity itself.
    pub const ONE: ValueScale = ValueScale { times: 1.0, per: 1.0, max: (1_u64 << 63) as f64 };
    /// Percent, at most 100.
    pub const PERCENT: ValueScale = ValueScale { per: 100.0, max: 100.0, ..ValueScale::ONE };

    /// In units of `factor`.
    pub const fn times(factor: f64) -> ValueScale {
        ValueScale { times: factor, ..ValueScale::ONE }
    }

    /// In fractions: `per(1000.0)` for milliwatts.
    pub const fn per(divisor: f64) -> ValueScale {
        ValueScale { per: divisor, ..ValueScale::ONE }
    }

    /// The same with another greatest value.
    #[must_use]
    pub const fn at_most(self, max: f64) -> ValueScale {
        ValueScale { max, ..self }
    }

    /// The value of a number in the unit of the quantity; none where the number is out of range.
    pub fn value(self, number: f64) -> Option<f64> {
        (0.0..=self.max).contains(&number).then(|| number * self.times / self.per)
    }
}

impl<S> LibraryRow<S> {
    /// The reading, if the call returned a number in range.
    pub fn reading<C: Clone + Into<Missing>>(&self, answers: &Answers<C>) -> Option<Reading> {
        let number = match self.field {
            Some(field) => answers.field(self.call, field),
            None => answers.known(self.call),
        };
        let value = self.scale.value(number.into_value()?)?;
        Some(Reading { quantity: self.quantity, value })
    }
}

/// Makes the calls of all rows, each once, and adds the answers.
pub fn query<S: Copy, C>(
    rows: &[LibraryRow<S>],
    answers: &mut Answers<C>,
    ask: impl Fn(S, LibraryCall) -> Result<Value, C>,
) {
    for row in rows {
        if answers.get(row.call).is_none() {
            answers.put(row.call, ask(row.source, row.call));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use afd_model::Engine;
    use serde_json::json;

    use super::*;

    const USAGE: LibraryCall = LibraryCall::new("getUsage");
    const USED: LibraryCall = LibraryCall::selecting("getMemory", &[0]);

    const ROWS: [LibraryRow<u32>; 3] = [
        row(USAGE, Some("gfx"), Quantity::Utilization(Engine::Compute), ValueScale::PERCENT),
        row(USAGE, Some("umc"), Quantity::Utilization(Engine::Memory), ValueScale::PERCENT),
        row(USED, None, Quantity::MemoryUsedBytes, ValueScale::times(1024.0)),
    ];

    const fn row(
        call: LibraryCall,
        field: Option<&'static str>,
        quantity: Quantity,
        scale: ValueScale,
    ) -> LibraryRow<u32> {
        LibraryRow { call, source: 0, field, quantity, scale }
    }

    #[test]
    fn what_was_asked_by_the_rows_is_found_by_the_rows() {
        let calls = Cell::new(0);
        let mut answers: Answers<Missing> = Answers::default();
        query(&ROWS, &mut answers, |_, call| {
            calls.set(calls.get() + 1);
            Ok(if call == USAGE { json!({ "gfx": 35, "umc": 65535 }) } else { json!(2) })
        });
        assert_eq!(calls.get(), 2, "a call that fills two values is made once");
        let readings: Vec<f64> =
            ROWS.iter().filter_map(|row| row.reading(&answers)).map(|reading| reading.value).collect();
        assert_eq!(readings, [0.35, 2048.0], "all ones are no value");
        answers.put(USED, Ok(json!(u64::MAX)));
        assert_eq!(ROWS[2].reading(&answers), None);
        answers.put(USED, Err(Missing::NotPermitted));
        assert_eq!(ROWS[2].reading(&answers), None);
    }
}
