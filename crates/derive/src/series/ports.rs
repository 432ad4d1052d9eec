//! What RDMA ports have counted.

use afd_model::{Inventory, PortCount, PortCounters};

use super::{NO_SUBJECT, SeriesByFamily};
use crate::{families::Family, rdma::nearest_device};

/// Adds the counters of a port, if its NIC is there.
pub(super) fn add_counters(series: &mut SeriesByFamily, inventory: &Inventory, port: &PortCounters) {
    let Some(nic) = inventory.nics.iter().find(|nic| nic.name == port.nic) else { return };
    let device = nearest_device(inventory, nic).map(|device| device.id.to_string()).unwrap_or_default();
    let number = port.port.to_string();
    for (count, value) in &port.counts {
        let mut own = vec![("nic", port.nic.as_str()), ("port", &number), ("device", &device)];
        let family = match count {
            PortCount::ReceiveBytes => Family::RdmaPortReceiveBytesTotal,
            PortCount::TransmitBytes => Family::RdmaPortTransmitBytesTotal,
            PortCount::LinkDown => Family::RdmaPortLinkDownTotal,
            PortCount::Errors(kind) => {
                own.push(("kind", kind));
                Family::RdmaPortErrorsTotal
            }
        };
        series.add_with(family, NO_SUBJECT, &own, *value as f64);
    }
}
