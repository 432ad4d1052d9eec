use afd_model::{Device, Inventory, PciAddress, Variant, Vendor};
use prost::Message as _;

use super::*;
use crate::{
    DraAttributes,
    messages::{ALLOCATABLE, PODS},
    testing::pod,
    v1::{
        AllocatableResourcesResponse, ClaimResource, ContainerDevices, ContainerResources, DynamicResource,
        ListPodResourcesResponse, PodResources,
    },
    wire::{MessageShape, WireReader},
};

const GPU: &str = "amd.com/gpu";
const PLUGIN: AllocationMechanism = AllocationMechanism::DevicePlugin;

fn names() -> UnitNames {
    let device =
        |bus| Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu);
    let inventory = Inventory { devices: vec![device(1), device(2)], ..Inventory::default() };
    UnitNames::new(&inventory, &DraAttributes::new(), |_| None)
}

fn joined(shape: &'static MessageShape<Part>, bytes: &[u8]) -> JoinedResponse {
    let names = names();
    let mut joiner = Joiner::new(&names);
    let mut reader = WireReader::new(shape, bytes.len() as u64);
    for piece in bytes.chunks(1000) {
        reader.read(piece, &mut |event| joiner.take(event)).expect("it is a message");
    }
    joiner.finish()
}

fn held(pods: Vec<PodResources>) -> JoinedResponse {
    joined(&PODS, &ListPodResourcesResponse { pod_resources: pods }.encode_to_vec())
}

fn pods(joined: &JoinedResponse) -> Vec<&str> {
    joined.allocations.iter().map(|allocation| allocation.pod.as_str()).collect()
}

#[test]
fn held_ids_of_known_devices_become_sorted_allocations() {
    let ids = ["0000:01:00.0", "mlx5_0"];
    let joined = held(vec![
        pod("b", GPU, &ids),
        pod("a", GPU, &ids[..1]),
        pod("a", GPU, &ids),
        pod("c", GPU, &ids[1..]),
    ]);
    assert_eq!(pods(&joined), ["a", "b"]);
    assert_eq!(joined.held[&(PLUGIN, GPU.to_owned())], 2, "an id that several containers hold counts once");
    assert_eq!(joined.skipped, 0);
}

#[test]
fn the_pods_that_hold_rdma_devices_are_named() {
    let joined = held(vec![
        pod("both", "rdma/ib", &["shared-0"]),
        pod("accelerator", GPU, &["0000:01:00.0"]),
        pod("nothing", "rdma/ib", &[]),
    ]);
    let pods: Vec<&str> = joined.rdma_pods.iter().map(|(_, pod)| pod.as_str()).collect();
    assert_eq!(pods, ["both"]);
}

#[test]
fn a_claim_names_its_driver_and_its_devices() {
    let resource = |name: &str| ClaimResource {
        driver_name: "gpu.amd.com".to_owned(),
        device_name: name.to_owned(),
        ..ClaimResource::default()
    };
    let claim = DynamicResource {
        claim_name: "two".to_owned(),
        claim_resources: vec![resource("0000:01:00.0"), resource("0000:02:00.0"), resource("other")],
        ..DynamicResource::default()
    };
    let container = ContainerResources {
        name: "vllm".to_owned(),
        dynamic_resources: vec![claim],
        ..ContainerResources::default()
    };
    let pod = |name: &str| PodResources {
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        containers: vec![container.clone()],
    };
    let joined = held(vec![pod("a"), pod("b")]);
    assert_eq!(pods(&joined), ["a", "b", "a", "b"], "in the order of the devices");
    let first = joined.allocations.first().expect("there are some");
    assert_eq!((&first.resource[..], first.mechanism), ("gpu.amd.com/two", AllocationMechanism::Dra));
    assert_eq!(joined.held[&(AllocationMechanism::Dra, "gpu.amd.com".to_owned())], 3);
}

#[test]
fn hundreds_of_thousands_of_ids_are_few_allocations() {
    let ids = |bus: u32| (0..50_000).map(move |number| format!("0000:0{bus}:00.0-_-{number}"));
    let devices = |bus| ContainerDevices { resource_name: GPU.to_owned(), device_ids: ids(bus).collect() };
    let container =
        ContainerResources { devices: vec![devices(1), devices(2)], ..ContainerResources::default() };
    let pod = PodResources { name: "a".to_owned(), containers: vec![container], ..PodResources::default() };
    let joined = held(vec![pod]);
    assert_eq!((pods(&joined).len(), joined.skipped), (2, 0));
    assert_eq!(joined.held[&(PLUGIN, GPU.to_owned())], 100_000);
    let response = AllocatableResourcesResponse { devices: vec![devices(1), devices(2), devices(1)] };
    assert_eq!(self::joined(&ALLOCATABLE, &response.encode_to_vec()).units.len(), 2);
}

#[test]
fn allocations_and_ids_beyond_the_limits_are_counted() {
    let more = (0..MAX_ALLOCATIONS + 3).map(|number| pod(&number.to_string(), GPU, &["0000:01:00.0"]));
    let joined = held(more.collect());
    assert_eq!((joined.allocations.len(), joined.skipped), (MAX_ALLOCATIONS, 3));
    let long = (0..MAX_ALLOCATIONS)
        .map(|number| pod(&format!("{number:04}{}", "x".repeat(249)), GPU, &["0000:01:00.0"]));
    let joined = held(long.collect());
    assert_eq!(joined.allocations.len() + usize::try_from(joined.skipped).expect("it fits"), MAX_ALLOCATIONS);
    assert!((300..MAX_ALLOCATIONS / 2).contains(&joined.allocations.len()), "{}", joined.allocations.len());
    let too_many = ContainerDevices {
        resource_name: GPU.to_owned(),
        device_ids: vec![String::new(); usize::try_from(MAX_IDS).expect("it fits") + 5],
    };
    let response = AllocatableResourcesResponse { devices: vec![too_many] };
    assert_eq!(self::joined(&ALLOCATABLE, &response.encode_to_vec()).skipped, 5);
    assert_eq!(held(vec![pod(&"x".repeat(10_000), GPU, &["0000:01:00.0"])]).skipped, 1, "no name is so long");
}

#[test]
fn a_name_may_follow_what_it_names() {
    // Fields in an order in which no known encoder writes them: containers before the names of their pod.
    let container = pod("ignored", GPU, &["0000:01:00.0"]);
    let (mut bytes, named) =
        (PodResources { name: String::new(), namespace: String::new(), ..container }.encode_to_vec(), "late");
    bytes.extend(PodResources { name: named.to_owned(), ..PodResources::default() }.encode_to_vec());
    let mut response = vec![0x0a, u8::try_from(bytes.len()).expect("it is short")];
    response.extend(bytes);
    assert_eq!(pods(&joined(&PODS, &response)), [named]);
}
