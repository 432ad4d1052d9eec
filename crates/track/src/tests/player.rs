//! A node that is played: devices, a library, a Node object that keeps what is written to it, and a clock.

use std::time::Duration;

use afd_model::{
    Condition, Decision, Device, Fact, Health, HealthState, Inventory, Known, LibraryStatus, MaintenanceKind,
    Missing, NodeFacts, OfferVerdict, Offers, PciAddress, PciId, Variant, Vendor,
};

use crate::{Believed, Observation, SavedState, Track, TrackOptions, TrackedVendor, VendorObservation};

pub(super) const PROBE: &str = "amd";
pub(super) const KIND: u16 = 0x74a1;
const PREFIX: &str = "p";
const STEP: u64 = 5;
const VENDOR: TrackedVendor = TrackedVendor {
    probe: PROBE,
    vendor: Vendor::Amd,
    variant: Variant::Gpu,
    pci_vendors: &[0x1002],
    passthrough_drivers: &["vfio-pci"],
    host_drivers: &["gim"],
};
/// Wall time of the boot.
const BOOTED_AT: i64 = 1_764_000_000;

/// A device as a probe reports it while its library answers.
pub(super) fn device(bus: u8) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    let mut device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    device.pci.vendor_id = Known::Value(PciId(0x1002));
    device.pci.device_id = Known::Value(PciId(KIND));
    device.uuid = Known::Value(format!("uuid-{bus}"));
    device.driver = Known::Value("amdgpu".to_owned());
    device.memory_bytes = Known::Value(1 << 37);
    device.health = Health::healthy();
    device
}

/// The same while the library does not answer.
pub(super) fn without_library(mut device: Device) -> Device {
    device.memory_bytes = Missing::NotExposed.into();
    device.health = Health::unknown();
    device
}

/// The same without a driver.
pub(super) fn unbound(device: Device) -> Device {
    let mut device = without_library(device);
    device.driver = Missing::DriverNotBound.into();
    device.health = Health::failed("DriverMissing", "no driver is bound");
    device
}

/// A node, an agent, and what the agent made of the Node object.
pub(super) struct Player {
    pub(super) track: Track,
    pub(super) now: Duration,
    pub(super) devices: Vec<Device>,
    pub(super) library: LibraryStatus,
    pub(super) restarts: u64,
    pub(super) signal: Option<MaintenanceKind>,
    pub(super) offer: OfferVerdict,
    pub(super) node: NodeFacts,
    pub(super) ready: Option<Condition>,
    pub(super) problem: Option<Condition>,
    /// How often anything on the Node changed.
    pub(super) writes: u32,
    /// What survives a restart of the container.
    state: Option<SavedState>,
    machine: Known<String>,
    boot_id: &'static str,
}

impl Player {
    /// A node whose devices work, with an agent that has seen it for a while. It was booted three hours ago.
    pub(super) fn settled(count: u8) -> Player {
        let mut player = Player::new(count, 10_800);
        player.play(700);
        assert_eq!(player.ready(), "True AllHealthy");
        assert_eq!(player.problem(), "False NoDeviceFault");
        player
    }

    /// An agent that has observed nothing yet, some seconds after boot.
    pub(super) fn new(count: u8, uptime: u64) -> Player {
        let node = NodeFacts {
            system_uuid: "4c4c4544-0044-4210-8031-c2c04f4e4832".to_owned(),
            boot_id: "boot".to_owned(),
            created: Some(BOOTED_AT - 86_400),
            ..NodeFacts::default()
        };
        Player {
            track: agent(),
            now: Duration::from_secs(uptime),
            devices: (1..=count).map(device).collect(),
            library: LibraryStatus::Answering,
            restarts: 0,
            signal: None,
            offer: OfferVerdict::Complete,
            node,
            ready: None,
            problem: None,
            writes: 0,
            state: None,
            machine: Known::default(),
            boot_id: "boot",
        }
    }

    /// An agent whose admin expects devices of all nodes.
    pub(super) fn expecting(expect: &str, count: u8) -> Player {
        let expect = Some(expect.parse().expect("it is valid"));
        let options = TrackOptions { expect, ..options() };
        Player { track: Track::new(options, [VENDOR]), ..Player::new(count, 10_800) }
    }

    /// A new pod: nothing is left but the Node.
    pub(super) fn restart_pod(&mut self) {
        self.track = agent();
        self.state = None;
    }

    /// A new container in the same pod.
    pub(super) fn restart_container(&mut self) {
        self.track = agent();
        if let Some(state) = self.state.take() {
            self.track.restore(state, self.boot_id);
        }
    }

    /// The machine is booted again; the kubelet writes the Node, and a pod starts.
    pub(super) fn reboot(&mut self, uptime: u64) {
        self.restart_pod();
        self.now = Duration::from_secs(uptime);
    }

    /// The same with an id of its own for the boot.
    pub(super) fn reboot_as(&mut self, boot_id: &'static str, uptime: u64) {
        self.boot_id = boot_id;
        self.node.boot_id = boot_id.to_owned();
        self.reboot(uptime);
    }

    /// Observes for a time, as the loop of the agent does.
    pub(super) fn play(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(STEP) {
            self.now += Duration::from_secs(STEP);
            self.observe();
        }
    }

    /// One observation.
    pub(super) fn observe(&mut self) {
        self.observe_parts(true, true);
    }

    /// One observation, of the devices or of the Node alone.
    pub(super) fn observe_parts(&mut self, has_inventory: bool, has_node: bool) {
        let inventory = Inventory {
            devices: self.devices.clone(),
            machine: self.machine.clone(),
            ..Inventory::default()
        };
        let observed =
            VendorObservation { library: self.library, restarts: self.restarts, signal: self.signal };
        let observation = Observation {
            now: self.now,
            wall: Some(BOOTED_AT + self.now.as_secs() as i64),
            boot_id: Some(self.boot_id),
            inventory: has_inventory.then_some(&inventory),
            vendors: [(PROBE, observed)].into(),
            node: has_node.then_some(&self.node),
        };
        self.track.observe(&observation);
        self.track.observe_offers(Some(&Offers::default()));
        let conditions = self.track.conditions(&self.offer);
        let inherits = self.track.believed().inherits || !self.track.believed().is_settled;
        self.writes += write(&mut self.ready, conditions.ready, inherits);
        self.writes += write(&mut self.problem, conditions.problem, inherits);
        if self.track.believed().is_settled
            && let Decision::Decided(memory) = &self.track.believed().memory
            && self.node.annotations.insert("p/expected".to_owned(), memory.clone()).as_ref() != Some(memory)
        {
            self.writes += 1;
        }
        self.state = Some(self.track.save(self.boot_id));
    }

    pub(super) fn annotate(&mut self, name: &str, value: &str) {
        self.node.annotations.insert(format!("{PREFIX}/{name}"), value.to_owned());
    }

    /// The machine is of a cloud provider's instance type.
    pub(super) fn set_instance_type(&mut self, name: &str) {
        self.node.provider_id = Some("azure:///subscriptions/x".to_owned());
        self.node.labels.insert("node.kubernetes.io/instance-type".to_owned(), name.to_owned());
    }

    pub(super) fn believed(&self) -> &Believed {
        self.track.believed()
    }

    /// Status and reason of `Ready`, as the Node says them.
    pub(super) fn ready(&self) -> String {
        text(self.ready.as_ref())
    }

    /// Status and reason of `Problem`, as the Node says them.
    pub(super) fn problem(&self) -> String {
        text(self.problem.as_ref())
    }

    /// How many devices the Node is believed to have.
    pub(super) fn count(&self) -> usize {
        self.believed().for_node.devices.len()
    }

    pub(super) fn missing(&self) -> usize {
        self.believed().for_node.missing.len()
    }

    /// Whether the memory of the first device is known, or else stays as the Node says.
    pub(super) fn keeps_memory(&self) -> bool {
        let device = &self.believed().for_node.devices[0];
        device.memory_bytes.is_known() || device.undecided.contains(Fact::Memory) && self.believed().inherits
    }

    /// The state of the first device, if it is decided.
    pub(super) fn health(&self) -> Option<HealthState> {
        let device = &self.believed().for_node.devices[0];
        (!device.undecided.contains(Fact::Health)).then_some(device.health.state)
    }
}

fn options() -> TrackOptions {
    TrackOptions { prefix: PREFIX.to_owned(), has_node: true, ..TrackOptions::default() }
}

fn agent() -> Track {
    Track::new(options(), [VENDOR])
}

/// Changes what the Node says; returns the number of writes. What is undecided and not inherited is removed.
fn write(condition: &mut Option<Condition>, decision: Decision<Condition>, inherits: bool) -> u32 {
    let new = match decision {
        Decision::Undecided if inherits => return 0,
        Decision::Undecided | Decision::Absent => None,
        Decision::Decided(condition) => Some(condition),
    };
    let is_change = text(condition.as_ref()) != text(new.as_ref());
    *condition = new;
    u32::from(is_change)
}

fn text(condition: Option<&Condition>) -> String {
    condition.map_or_else(
        || "none".to_owned(),
        |condition| format!("{} {}", condition.status.as_str(), condition.reason),
    )
}
