//! The columns of the table, and how wide they are on a screen.

use LiveValue::{Memory, Power, Temperature, Utilization};
use TopColumn::{Device, Health, History, Pods, Product, Value};

use crate::live::format::LiveValue;

/// A column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TopColumn {
    Device,
    Product,
    Health,
    Value(LiveValue),
    History(LiveValue),
    Pods,
}

/// A column, its least width, and the width up to which it takes room that is left.
struct ColumnWidth(TopColumn, usize, usize);

/// The width of a PCI address, `0000:19:00.0`.
const DEVICE_WIDTH: usize = 12;
/// The greatest width for addresses of large domains, such as `10000:19:00.0`, and for partitions. A longer name is cut.
pub(super) const MAX_DEVICE_WIDTH: usize = 17;

/// In the order in which they are given room, with the width of the devices.
const fn by_importance(device: usize) -> [ColumnWidth; 12] {
    [
        ColumnWidth(Device, device, device),
        ColumnWidth(Health, 8, 8),
        ColumnWidth(Value(Utilization), 4, 4),
        ColumnWidth(Value(Memory), 11, 11),
        ColumnWidth(Value(Temperature), 5, 5),
        ColumnWidth(Value(Power), 10, 10),
        ColumnWidth(Pods, 14, 44),
        ColumnWidth(History(Utilization), 8, 20),
        ColumnWidth(Product, 16, 32),
        ColumnWidth(History(Memory), 8, 16),
        ColumnWidth(History(Power), 8, 16),
        ColumnWidth(History(Temperature), 8, 16),
    ]
}

/// In the order in which they are shown.
const BY_PLACE: [TopColumn; 12] = [
    Device,
    Product,
    Health,
    Value(Utilization),
    History(Utilization),
    Value(Memory),
    History(Memory),
    Value(Power),
    History(Power),
    Value(Temperature),
    History(Temperature),
    Pods,
];

impl TopColumn {
    /// Its header.
    pub(super) fn title(self) -> &'static str {
        match self {
            Device => "DEVICE",
            Product => "PRODUCT",
            Health => "HEALTH",
            Value(Utilization) => "UTIL",
            Value(Memory) => "MEMORY",
            Value(Power) => "POWER",
            Value(Temperature) => "TEMP",
            History(_) => "",
            Pods => "HELD BY",
        }
    }

    /// Whether its text is aligned at the right.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Value(_))
    }
}

/// The columns of a screen, each with its first cell and its width. A column that does not fit is left out. `device` is the
/// width that the names of devices need.
pub(super) fn columns(width: usize, device: usize) -> Vec<(TopColumn, usize, usize)> {
    let by_importance = by_importance(device.clamp(DEVICE_WIDTH, MAX_DEVICE_WIDTH));
    let mut used = 0;
    let mut chosen: Vec<(&ColumnWidth, usize)> = Vec::new();
    for column in &by_importance {
        let room = width.saturating_sub(used);
        // Without the most important ones there is no table.
        let is_first = chosen.is_empty();
        if column.1 < room || is_first {
            let own = column.1.min(room);
            used += own + 1;
            chosen.push((column, own));
        }
    }
    let mut left = (width + 1).saturating_sub(used);
    for (column, own) in &mut chosen {
        let more = left.min(column.2 - column.1);
        *own += more;
        left -= more;
    }
    let mut x = 0;
    let mut placed = Vec::new();
    for column in BY_PLACE {
        if let Some((_, own)) = chosen.iter().find(|(chosen, _)| chosen.0 == column) {
            placed.push((column, x, *own));
            x += own + 1;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_every_screen_fit_and_the_more_important_ones_are_there() {
        for device in [0, 12, 13, 17, 100] {
            let mut number = 0;
            for width in 1..400 {
                let columns = columns(width, device);
                let end = columns.iter().map(|(_, x, own)| x + own).max().unwrap_or_default();
                assert!(end <= width, "{width}: {columns:?}");
                assert!(columns.windows(2).all(|pair| pair[0].1 + pair[0].2 < pair[1].1), "{width}");
                assert!(columns.iter().any(|(column, ..)| *column == Device), "{width}");
                assert!(columns.len() >= number, "{width}: a wider screen has no fewer columns");
                number = columns.len();
            }
            assert_eq!(number, BY_PLACE.len());
        }
        let on =
            |width| columns(width, DEVICE_WIDTH).into_iter().map(|(column, ..)| column).collect::<Vec<_>>();
        assert!(on(80).contains(&Pods) && on(80).contains(&History(Utilization)), "{:?}", on(80));
        assert!(on(40).contains(&Value(Memory)) && !on(40).contains(&Pods), "{:?}", on(40));
    }
}
