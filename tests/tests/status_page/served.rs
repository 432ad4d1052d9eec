//! Pages as the agent renders them, of devices that no fixture has, served by this test.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use afd_agent::{
    live::{LiveInputs, LiveReport},
    render::{self, DoorPage, PageInputs},
};
use afd_derive::{
    paths::PathRules,
    series::{InCluster, SeriesDetail},
};
use afd_model::{
    Allocation, AllocationMechanism, Device, Engine, Inventory, Known, PciAddress, Quantity, Reading, Sample,
    Sampling, Sensor,
};
use afd_publish::page::Page;
use afd_tests::fixture::Fixture;

/// A server of `/` and `/live.html`.
pub(crate) struct ServedReport {
    address: String,
    age: Arc<AtomicU64>,
}

/// So many devices of one kind, each with a name for the kernel of its own.
pub(crate) fn busy_devices(number: u8) -> Inventory {
    let expected = Fixture::named("nvidia-h100x8-nvml").expected("inventory.json");
    let text = std::fs::read_to_string(expected).expect("the fixture has an inventory");
    let inventory: Inventory = serde_json::from_str(&text).expect("expected output is an inventory");
    let device = |bus: u8| {
        let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
        Device { id: address.into(), ..inventory.devices[0].clone() }
    };
    Inventory { devices: (1..=number).map(device).collect(), links: Vec::new(), ..inventory }
}

/// A sample of each device, in which all have other values.
fn sampling(inventory: &Inventory) -> Sampling {
    let sample = |(index, device): (usize, &Device)| {
        let share = index as f64 / inventory.devices.len() as f64;
        let readings = [
            (Quantity::Utilization(Engine::Compute), share),
            (Quantity::MemoryUsedBytes, share * 80e9),
            (Quantity::PowerWatts, 70.0 + share * 630.0),
            (Quantity::PowerLimitWatts, 700.0),
            (Quantity::TemperatureCelsius(Sensor::Gpu), 30.0 + share * 50.0),
        ];
        let readings = readings.into_iter().map(|(quantity, value)| Reading { quantity, value });
        Sample { unit: device.id.into(), readings: readings.collect() }
    };
    Sampling { samples: inventory.devices.iter().enumerate().map(sample).collect(), ..Sampling::default() }
}

impl ServedReport {
    /// Serves the pages of an inventory until the test ends. Pods with long names hold the devices.
    pub(crate) fn new(inventory: &Inventory) -> ServedReport {
        let rules = PathRules::built_in();
        let (paths, sampling) = (rules.verdicts(inventory, false), sampling(inventory));
        let held = inventory.devices.iter().map(|device| Allocation {
            unit: device.id.into(),
            namespace: "inference-of-a-team-with-a-long-name".to_owned(),
            pod: format!(
                "vllm-decode-deployment-5f6d8c7b9-{}",
                device.id.to_string().replace([':', '.'], "x")
            ),
            container: "vllm".to_owned(),
            resource: "nvidia.com/gpu".to_owned(),
            mechanism: AllocationMechanism::DevicePlugin,
        });
        let held: Vec<Allocation> = held.collect();
        let cluster = InCluster { allocations: Some(&held), ..InCluster::default() };
        let inputs = LiveInputs {
            page: PageInputs {
                inventory,
                paths: &paths,
                sampling: &sampling,
                cluster,
                door: DoorPage::default(),
                detail: SeriesDetail::default(),
            },
            conditions: None,
            node: Some("gpu-7"),
            sampled_at: Some(1.8e9),
            interval: Duration::from_secs(1),
            stale_after: Duration::from_secs(16),
        };
        let frame = render::inventory(&Arc::new(inventory.clone()), Some("gpu-7")).frame;
        let pages = render::live(&frame, LiveReport::new(inputs), None);
        assert!(matches!(inventory.devices[0].memory_bytes, Known::Value(_)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let age = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&age);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]);
                let page =
                    if request.starts_with("GET /live.html ") { &pages.part } else { &pages.status_page };
                let _ = stream.write_all(&response(page, shared.load(Ordering::Relaxed)));
            }
        });
        ServedReport { address, age }
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sets how many seconds old the pages are.
    pub(crate) fn set_age(&self, seconds: u64) {
        self.age.store(seconds, Ordering::Relaxed);
    }
}

fn response(page: &Page, age: u64) -> Vec<u8> {
    let body = page.plain();
    let policy = page.policy().and_then(|policy| policy.to_str().ok()).expect("the page has a policy");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Security-Policy: {policy}\r\nAge: {age}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        page.content_type(),
        body.len()
    );
    [head.as_bytes(), &body].concat()
}
