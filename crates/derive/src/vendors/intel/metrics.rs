//! The families of XPU Manager, whose two generations have disjoint names: 1.x ([`xpum`]) and 2.x ([`xpumd`]).

mod xpum;
mod xpumd;

use afd_model::{IntelComponent, IntelFacts, IntelQuantity, IntelValue, Quantity, VendorQuantity};

pub(super) use self::{xpum::XPUM, xpumd::XPUMD};
use crate::compat::metrics::ExporterUnit;

/// The components of one kind.
type ComponentList = fn(&IntelFacts) -> &[IntelComponent];

/// A reading of a component: its position, the component, what was read, and the value.
struct ComponentReading<'u> {
    index: usize,
    component: &'u IntelComponent,
    value: IntelValue,
    number: f64,
}

/// The readings of the components of one kind, in their order.
fn component_readings<'u>(
    unit: &'u ExporterUnit<'_>,
    list: ComponentList,
    is_wanted: impl Fn(IntelValue) -> bool,
) -> Vec<ComponentReading<'u>> {
    let Some(facts) = unit.device.intel() else { return Vec::new() };
    let mut readings = unit.filter_readings(|quantity, number| {
        let (value, index) = own(quantity).filter(|(value, _)| is_wanted(*value))?;
        let component = list(facts).get(index)?;
        Some(ComponentReading { index, component, value, number })
    });
    readings.sort_by_key(|reading| (reading.index, reading.value));
    readings
}

/// The readings that have no component of a list, with the position that they name.
fn own_readings<T>(unit: &ExporterUnit<'_>, pick: impl Fn(IntelValue) -> Option<T>) -> Vec<(usize, T, f64)> {
    let mut readings = unit.filter_readings(|quantity, number| {
        let (value, index) = own(quantity)?;
        Some((index, pick(value)?, number))
    });
    readings.sort_by_key(|(index, ..)| *index);
    readings
}

fn own(quantity: &Quantity) -> Option<(IntelValue, usize)> {
    match quantity {
        Quantity::Vendor(VendorQuantity::Intel(IntelQuantity { value, component })) => {
            Some((*value, usize::from(*component)))
        }
        _ => None,
    }
}

/// The number of a tile; empty for the whole device.
fn tile(tile: Option<u32>) -> String {
    tile.map(|tile| tile.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
