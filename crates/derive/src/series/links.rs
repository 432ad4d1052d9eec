//! Which values of links are published: those of each link, or their sums.

use afd_model::{LinkValue, Quantity, Reading, Sample};

use super::SeriesDetail;
use crate::families::{Family, MetricSubject};

/// Whether a reading is published. A sum over links is not, where the values of the links are: who adds up the series of a device
/// would count everything twice.
pub(super) fn is_shown(reading: &Reading, sample: &Sample, detail: SeriesDetail) -> bool {
    match reading.quantity {
        Quantity::Link(..) => detail.per_link,
        Quantity::LinkBytes(counter, direction) if detail.per_link => {
            !sample.readings.iter().any(|other| match other.quantity {
                Quantity::Link(link, LinkValue::Bytes(of)) => {
                    of == direction && link.kind.as_str() == counter.as_str()
                }
                _ => false,
            })
        }
        _ => true,
    }
}

/// Whether a series with so many labels is the sum over the links of a device: it names no link and no peer.
pub(super) fn is_sum(family: Family, labels: usize) -> bool {
    let own = ["type", "direction"];
    family == Family::LinkBytesTotal && labels == MetricSubject::Device.labels().len() + own.len()
}
