//! Incidents in the form in which they outlive this process.

use afd_model::{ErrorCountRecord, IncidentRecord, PciAddress};

use super::{Incidents, KnownGpu, MigPlace};
use crate::NAME;

impl Incidents {
    /// All open incidents.
    pub(crate) fn records(&self) -> Vec<IncidentRecord> {
        let record = |incident: &super::Incident| {
            let gpu = self.gpus.get(&incident.address);
            IncidentRecord {
                probe: NAME.to_owned(),
                device: incident.address.into(),
                load: gpu.map(|gpu| gpu.load.clone()).unwrap_or_default(),
                partition: incident.instance.map(MigPlace::name),
                code: incident.code.clone(),
                first_seen: incident.first_seen,
                resets: None,
            }
        };
        self.open.iter().map(record).collect()
    }

    /// Opens the incidents of records. What the records say of GPU and driver counts as read, so that the next discovery closes
    /// those of another GPU or driver.
    pub(crate) fn restore(&mut self, records: Vec<IncidentRecord>) {
        for record in records.into_iter().filter(|record| record.probe == NAME) {
            let address: PciAddress = record.device.0;
            let instance = match record.partition.as_deref().map(MigPlace::parse) {
                Some(None) => continue,
                Some(instance) => instance,
                None => None,
            };
            let gpu = self.gpus.entry(address).or_default();
            if gpu.load.adopt(record.load) {
                self.open(address, record.code, instance, record.first_seen);
            }
        }
    }
}

impl Incidents {
    /// How often each GPU reported each XID.
    pub(crate) fn count_records(&self) -> Vec<ErrorCountRecord> {
        let record = |(address, gpu): (&PciAddress, &KnownGpu)| {
            let (counts, last) = gpu.counts.record()?;
            Some(ErrorCountRecord {
                probe: NAME.to_owned(),
                device: (*address).into(),
                load: gpu.load.clone(),
                counts,
                last,
            })
        };
        self.gpus.iter().filter_map(record).collect()
    }

    /// Continues the counts of records. Those of another GPU or driver are ignored.
    pub(crate) fn restore_counts(&mut self, records: Vec<ErrorCountRecord>) {
        for record in records.into_iter().filter(|record| record.probe == NAME) {
            let gpu = self.gpus.entry(record.device.0).or_default();
            if gpu.load.adopt(record.load) {
                gpu.counts.restore(&record.counts, record.last);
            }
        }
    }
}

impl MigPlace {
    /// `gi1` or `gi1-ci0`.
    fn name(self) -> String {
        let compute = self.compute_instance.map(|id| format!("-ci{id}")).unwrap_or_default();
        format!("gi{}{compute}", self.gpu_instance)
    }

    fn parse(name: &str) -> Option<MigPlace> {
        let ids = name.strip_prefix("gi")?;
        let (gpu_instance, compute_instance) = match ids.split_once("-ci") {
            Some((gpu_instance, compute)) => (gpu_instance, Some(compute.parse().ok()?)),
            None => (ids, None),
        };
        Some(MigPlace { gpu_instance: gpu_instance.parse().ok()?, compute_instance })
    }
}
