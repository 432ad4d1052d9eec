//! Counts of the XIDs of a GPU since its driver was loaded.

use std::collections::BTreeMap;

use afd_model::{ErrorDetail, ErrorKind, Quantity, Reading};

use crate::xid;

/// The numbers that are counted apart, at most. NVIDIA documents fewer; the process of a library may send any.
const MAX_NUMBERS: usize = 256;
/// Stands for all other numbers. It is no XID, which has three digits.
const OTHERS: u32 = u32::MAX;

/// The XIDs of one GPU.
#[derive(Debug, Default)]
pub(crate) struct XidCounts {
    numbers: BTreeMap<u32, u64>,
    last: u32,
}

impl XidCounts {
    /// Counts an XID.
    pub(crate) fn add(&mut self, number: u32) {
        self.add_many(number, 1);
        self.last = number;
    }

    /// The counts and the last number, unless there was no XID.
    pub(crate) fn record(&self) -> Option<(BTreeMap<u32, u64>, u32)> {
        (!self.numbers.is_empty()).then(|| (self.numbers.clone(), self.last))
    }

    /// Continues earlier counts.
    pub(crate) fn restore(&mut self, counts: &BTreeMap<u32, u64>, last: u32) {
        if self.numbers.is_empty() {
            self.last = last;
        }
        for (number, count) in counts {
            self.add_many(*number, *count);
        }
    }

    fn add_many(&mut self, number: u32, added: u64) {
        let is_counted_apart = self.numbers.len() < MAX_NUMBERS
            || self.numbers.contains_key(&number)
            || xid::COUNTED.contains(&number);
        let count = self.numbers.entry(if is_counted_apart { number } else { OTHERS }).or_default();
        *count = count.saturating_add(added);
    }

    /// A counter for each number of [`xid::COUNTED`], one for all others, and the last number; 0 while there was none.
    pub(crate) fn readings(&self) -> impl Iterator<Item = Reading> {
        let count = |number| self.numbers.get(&number).copied().unwrap_or(0);
        let others = self.numbers.iter().filter(|(number, _)| !xid::COUNTED.contains(number));
        let others = (ErrorDetail::Other, others.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count)));
        let counted = xid::COUNTED.map(|number| (ErrorDetail::Number(number), count(number)));
        let meaning = xid::find(self.last).map_or("", |xid| xid.meaning);
        let last = Reading { quantity: Quantity::LastXid { meaning }, value: self.last.into() };
        let reading = |(detail, count): (ErrorDetail, u64)| Reading {
            quantity: Quantity::Errors(ErrorKind::Xid, detail),
            value: count as f64,
        };
        counted.into_iter().chain([others]).map(reading).chain([last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_number_counts_from_zero_and_others_count_together() {
        let mut counts = XidCounts::default();
        let value = |counts: &XidCounts, quantity| {
            counts.readings().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
        };
        let errors = |detail| Quantity::Errors(ErrorKind::Xid, detail);
        assert_eq!(value(&counts, errors(ErrorDetail::Number(79))), Some(0.0));
        assert_eq!(value(&counts, errors(ErrorDetail::Other)), Some(0.0));
        assert_eq!(value(&counts, Quantity::LastXid { meaning: "" }), Some(0.0));
        let before = counts.readings().count();
        for number in [79, 8, 9999] {
            counts.add(number);
        }
        assert_eq!(value(&counts, errors(ErrorDetail::Number(79))), Some(1.0));
        assert_eq!(value(&counts, errors(ErrorDetail::Other)), Some(2.0));
        assert_eq!(value(&counts, Quantity::LastXid { meaning: "" }), Some(9999.0));
        assert_eq!(counts.readings().count(), before, "the number of series is fixed");
    }
}
