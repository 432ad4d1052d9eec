//! The machine that is played: its boards, its driver, its library, and what the Node object says of it.

use std::time::Duration;

use afd_model::{
    Device, Health, Inventory, Known, LibraryStatus, MaintenanceKind, Missing, OfferVerdict, PciAddress,
    PciId, Product, Variant, Vendor,
};
use afd_publish::testing::FakeNode;
use afd_track::{TrackedVendor, VendorObservation};
use proptest::{prelude::*, sample::select};
use serde_json::json;

/// How many boards the machine can hold.
pub(crate) const SLOTS: usize = 4;
/// PCI device ids of the boards.
pub(crate) const KINDS: [u16; 2] = [0x74a1, 0x74a5];
const PCI_VENDOR: u16 = 0x1002;
/// Every board is of this vendor.
pub(crate) const VENDOR: TrackedVendor = TrackedVendor {
    probe: "amd",
    vendor: Vendor::Amd,
    variant: Variant::Gpu,
    pci_vendors: &[PCI_VENDOR],
    passthrough_drivers: &[],
    host_drivers: &[],
};
/// For how many observations at most the Node still describes an earlier boot. Waiting for it takes 5 minutes.
pub(crate) const MAX_LATE: u8 = 4;

/// What happens to the machine, to the agent or to the Node.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Nothing.
    Quiet,
    /// A board falls off the bus.
    Vanish(usize),
    /// It comes back.
    Return(usize),
    /// Another board of the same kind is put in its place.
    Replace(usize),
    /// A board of the other kind is put in its place.
    Refit(usize),
    /// The library reports that a board is lost, or that it works again.
    Lose(usize, bool),
    /// The library does this from now on.
    Library(LibraryStatus),
    /// The driver is bound to all boards, or to none.
    Driver(bool),
    /// The Node announces maintenance, or no longer does.
    Signal(Option<MaintenanceKind>),
    /// All boards are offered to pods, or not all of them.
    Offer(bool),
    /// The agent ends, and a new container of the same pod continues from its state.
    RestartContainer,
    /// The agent ends, and a new pod starts.
    RestartPod,
    /// The machine is booted; the Node describes that boot after so many observations.
    Reboot(u8),
    /// Another machine is booted under the same Node.
    OtherMachine(u8),
    /// Another field manager changes a label of the agent, or removes it.
    OtherManager { label: usize, removes: bool },
    /// The machine is suspended for so many minutes.
    Suspend(u8),
}

impl Event {
    /// All events. Those that decide what is believed for long are the frequent ones.
    pub(crate) fn any() -> impl Strategy<Value = Event> {
        use LibraryStatus::{Answering, NotFound, Released, Silent, Starting};
        let slot = || 0..SLOTS;
        let kinds = [None, Some(MaintenanceKind::DriverUpgrade), Some(MaintenanceKind::Reconfiguring)];
        let statuses = vec![Answering, Answering, Answering, Starting, Silent, NotFound, Released];
        prop_oneof![
            3 => Just(Event::Quiet),
            3 => slot().prop_map(Event::Vanish),
            3 => slot().prop_map(Event::Return),
            1 => slot().prop_map(Event::Replace),
            1 => slot().prop_map(Event::Refit),
            1 => (slot(), any::<bool>()).prop_map(|(slot, lost)| Event::Lose(slot, lost)),
            8 => select(statuses).prop_map(Event::Library),
            3 => any::<bool>().prop_map(Event::Driver),
            3 => select(kinds.to_vec()).prop_map(Event::Signal),
            1 => any::<bool>().prop_map(Event::Offer),
            4 => Just(Event::RestartContainer),
            2 => Just(Event::RestartPod),
            1 => (0..MAX_LATE).prop_map(Event::Reboot),
            1 => (0..MAX_LATE).prop_map(Event::OtherMachine),
            2 => (any::<usize>(), any::<bool>())
                .prop_map(|(label, removes)| Event::OtherManager { label, removes }),
            1 => (4_u8..20).prop_map(Event::Suspend),
        ]
    }
}

/// One board.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Board {
    /// Index of its kind in [`KINDS`].
    pub(crate) kind: usize,
    /// Number of its UUID.
    pub(crate) uuid: u32,
    is_lost: bool,
}

/// The machine, and the clocks.
#[derive(Debug)]
pub(crate) struct World {
    /// The boards, by slot.
    pub(crate) slots: [Option<Board>; SLOTS],
    /// Boards that have fallen off the bus.
    away: [Option<Board>; SLOTS],
    pub(crate) library: LibraryStatus,
    restarts: u64,
    pub(crate) driver: bool,
    pub(crate) signal: Option<MaintenanceKind>,
    pub(crate) offer: OfferVerdict,
    /// Which machine it is.
    pub(crate) machine: u32,
    boot: u32,
    pub(crate) uptime: Duration,
    /// Wall time in seconds.
    pub(crate) wall: i64,
    /// After how many observations the Node describes this boot.
    late: u8,
    /// The boot that the Node describes.
    written: Option<u32>,
    boards: u32,
}

impl World {
    /// A machine with boards of these kinds.
    pub(crate) fn new(kinds: &[usize], uptime: Duration) -> World {
        let mut world = World {
            slots: [None; SLOTS],
            away: [None; SLOTS],
            library: LibraryStatus::Answering,
            restarts: 0,
            driver: true,
            signal: None,
            offer: OfferVerdict::Complete,
            machine: 1,
            boot: 1,
            uptime,
            wall: 1_764_000_000,
            late: 0,
            written: None,
            boards: 0,
        };
        for (slot, kind) in kinds.iter().enumerate() {
            world.slots[slot] = Some(world.new_board(*kind));
        }
        world
    }

    fn new_board(&mut self, kind: usize) -> Board {
        self.boards += 1;
        Board { kind, uuid: self.boards, is_lost: false }
    }

    /// Plays an event as far as it concerns the machine.
    pub(crate) fn play(&mut self, event: &Event) {
        match *event {
            Event::Quiet | Event::RestartContainer | Event::RestartPod | Event::OtherManager { .. } => {}
            Event::Vanish(slot) => {
                if let Some(board) = self.slots[slot].take() {
                    self.away[slot] = Some(board);
                }
            }
            Event::Return(slot) => {
                if let Some(board) = self.away[slot].take() {
                    self.slots[slot] = Some(board);
                }
            }
            Event::Replace(slot) => self.put(slot, |kind| kind),
            Event::Refit(slot) => self.put(slot, |kind| (kind + 1) % KINDS.len()),
            Event::Lose(slot, is_lost) => {
                if let Some(board) = &mut self.slots[slot] {
                    board.is_lost = is_lost;
                }
            }
            Event::Library(status) => {
                self.library = status;
                self.restarts += u64::from(status == LibraryStatus::Starting);
            }
            Event::Driver(is_bound) => self.driver = is_bound,
            Event::Signal(signal) => self.signal = signal,
            Event::Offer(true) => self.offer = OfferVerdict::Complete,
            Event::Offer(false) => self.offer = OfferVerdict::Incomplete("one is not offered".to_owned()),
            Event::Reboot(late) => self.boot(late),
            Event::OtherMachine(late) => {
                self.machine += 1;
                self.away = [None; SLOTS];
                let kind = self.machine as usize % KINDS.len();
                for slot in 0..SLOTS {
                    self.slots[slot] = (slot % 2 == 0).then(|| self.new_board(kind));
                }
                self.boot(late);
            }
            Event::Suspend(minutes) => self.pass(Duration::from_secs(60 * u64::from(minutes))),
        }
    }

    fn put(&mut self, slot: usize, kind: impl Fn(usize) -> usize) {
        if let Some(board) = self.slots[slot] {
            self.slots[slot] = Some(self.new_board(kind(board.kind)));
        }
    }

    fn boot(&mut self, late: u8) {
        self.boot += 1;
        self.late = late;
        self.uptime = Duration::from_secs(20);
        self.wall += 60;
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.uptime += time;
        self.wall += i64::try_from(time.as_secs()).expect("it is short");
    }

    /// The id of this boot.
    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// Whether the Node describes this boot.
    pub(crate) fn is_described(&self) -> bool {
        self.late == 0
    }

    /// The kubelet writes what it knows of the machine, once it is there.
    pub(crate) fn write_node(&mut self, node: &mut FakeNode) {
        if self.late > 0 {
            self.late -= 1;
            return;
        }
        if self.written == Some(self.boot) {
            return;
        }
        self.written = Some(self.boot);
        let uuid = format!("4c4c4544-0044-4210-8031-{:012}", self.machine);
        let info = json!({ "systemUUID": uuid, "machineID": "machine", "bootID": self.boot_id() });
        node.set(json!({}), json!({ "nodeInfo": info }));
    }

    /// What the vendor's library and operator do.
    pub(crate) fn vendor(&self) -> VendorObservation {
        VendorObservation { library: self.library, restarts: self.restarts, signal: self.signal }
    }

    /// Whether the library reports the state of the boards.
    pub(crate) fn is_answering(&self) -> bool {
        self.library == LibraryStatus::Answering && self.driver
    }

    /// What a discovery finds.
    pub(crate) fn inventory(&self) -> Inventory {
        let boards = self.slots.iter().enumerate();
        let devices = boards.filter_map(|(slot, board)| Some(self.device(slot, &(*board)?)));
        Inventory { devices: devices.collect(), ..Inventory::default() }
    }

    fn device(&self, slot: usize, board: &Board) -> Device {
        let mut device = Device::bare(address(slot), VENDOR.vendor, VENDOR.variant);
        device.pci.vendor_id = Known::Value(PciId(PCI_VENDOR));
        device.pci.device_id = Known::Value(PciId(KINDS[board.kind]));
        let model = format!("M{}", board.kind);
        device.product = Known::Value(Product {
            name: format!("Vendor {model}"),
            model: Known::Value(model),
            architecture: Known::Value("arch".to_owned()),
        });
        let unbound = || Known::from(Missing::DriverNotBound);
        device.driver = if self.driver { Known::Value("driver".to_owned()) } else { unbound() };
        device.driver_version = if self.driver { Known::Value("1.0".to_owned()) } else { unbound() };
        if self.is_answering() {
            device.uuid = Known::Value(format!("uuid-{}", board.uuid));
            device.memory_bytes = Known::Value((board.kind as u64 + 1) << 37);
            let lost = || Health::failed("GpuLost", "it is lost");
            device.health = if board.is_lost { lost() } else { Health::healthy() };
            return device;
        }
        let missing = match self.library {
            _ if !self.driver => Missing::DriverNotBound,
            LibraryStatus::Starting => Missing::Pending,
            LibraryStatus::Released => Missing::Released,
            _ => Missing::NotExposed,
        };
        device.uuid = missing.into();
        device.memory_bytes = missing.into();
        if !self.driver {
            device.health = Health::failed("DriverMissing", "no driver is bound");
        }
        device
    }
}

fn address(slot: usize) -> PciAddress {
    PciAddress { domain: 0, bus: u8::try_from(slot).expect("there are few") + 1, device: 0, function: 0 }
}

/// The slot of a device.
pub(crate) fn slot_of(device: &Device) -> usize {
    usize::from(device.pci.address.bus) - 1
}
