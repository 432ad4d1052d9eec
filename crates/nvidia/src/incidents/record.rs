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
                pci_id: gpu.map(|gpu| gpu.pci_id.clone()).unwrap_or_default(),
                uuid: gpu.and_then(|gpu| gpu.uuid.clone()),
                partition: incident.instance.map(MigPlace::name),
                code: incident.code.clone(),
                first_seen: incident.first_seen,
                driver_version: gpu.and_then(|gpu| gpu.driver_version.clone()),
                driver_binding: gpu.and_then(|gpu| gpu.driver_binding),
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
            if !gpu.adopt(record.uuid, record.driver_version, record.driver_binding) {
                continue;
            }
            if gpu.pci_id.is_empty() {
                gpu.pci_id = record.pci_id;
            }
            self.open(address, record.code, instance, record.first_seen);
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
                uuid: gpu.uuid.clone(),
                driver_version: gpu.driver_version.clone(),
                driver_binding: gpu.driver_binding,
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
            if gpu.adopt(record.uuid, record.driver_version, record.driver_binding) {
                gpu.counts.restore(&record.counts, record.last);
            }
        }
    }
}

impl KnownGpu {
    /// Takes over what a record says of the GPU and its driver; false where it is of another GPU or driver.
    fn adopt(
        &mut self,
        uuid: Option<String>,
        driver_version: Option<String>,
        driver_binding: Option<u64>,
    ) -> bool {
        fn is_another<T: PartialEq>(known: &Option<T>, record: &Option<T>) -> bool {
            known.as_ref().zip(record.as_ref()).is_some_and(|(known, record)| known != record)
        }
        if is_another(&self.uuid, &uuid)
            || is_another(&self.driver_version, &driver_version)
            || is_another(&self.driver_binding, &driver_binding)
        {
            return false;
        }
        self.driver_binding = self.driver_binding.or(driver_binding);
        self.uuid = self.uuid.take().or(uuid);
        self.driver_version = self.driver_version.take().or(driver_version);
        true
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
