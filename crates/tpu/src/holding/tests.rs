use afd_model::{AllocationMechanism, PciAddress};

use super::*;

fn chip(numa_node: u32, device: u8) -> OrderedChip {
    let id = PciAddress { domain: 0, bus: 0, device, function: 0 }.into();
    OrderedChip { numa_node: Some(numa_node), id }
}

fn container(pod: &str) -> RuntimeContainer {
    RuntimeContainer { namespace: "ml".to_owned(), pod: pod.to_owned(), container: "main".to_owned() }
}

fn values(pod: &str, quantity: RuntimeQuantity, values: &[(u64, f64)]) -> Vec<RuntimeValue> {
    let value = |(device, value): &(u64, f64)| RuntimeValue {
        quantity,
        container: Some(container(pod)),
        device: *device,
        value: *value,
    };
    values.iter().map(value).collect()
}

fn held(pod: &str, chip: OrderedChip) -> Allocation {
    let RuntimeContainer { namespace, pod, container } = container(pod);
    Allocation {
        unit: chip.id.into(),
        namespace,
        pod,
        container,
        resource: "google.com/tpu".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    }
}

/// The values by the number of the chip's slot.
fn read(attributed: &Attributed) -> Vec<(u8, f64)> {
    attributed.readings.iter().map(|(chip, reading)| (chip.0.device, reading.value)).collect()
}

const DUTY: RuntimeQuantity = RuntimeQuantity::DutyCycle;
const USED: RuntimeQuantity = RuntimeQuantity::MemoryUsed;

#[test]
fn numbers_of_the_slice_follow_the_order_of_numa_nodes_and_addresses() {
    let chips = [chip(1, 4), chip(0, 9), chip(0, 8), chip(1, 3)];
    let numbers = values("a", DUTY, &[(10, 30.0), (4, 10.0), (7, 20.0), (12, 40.0)]);
    let attributed = attribute(&numbers, &chips, None);
    assert_eq!(read(&attributed), [(8, 0.1), (9, 0.2), (3, 0.3), (4, 0.4)]);
    assert_eq!(attributed.problem, None);
}

#[test]
fn values_of_two_cores_are_one_of_their_chip() {
    let chips = [chip(0, 1), chip(0, 2)];
    let mut both = values("a", DUTY, &[(4, 10.0), (5, 30.0), (6, 50.0), (7, 70.0)]);
    both.extend(values("a", USED, &[(4, 1.0), (5, 2.0)]));
    let attributed = attribute(&both, &chips, None);
    assert_eq!(read(&attributed), [(1, 0.2), (2, 0.6), (1, 1.0), (2, 2.0)]);
    let summed = attribute(&values("a", USED, &[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)]), &chips, None);
    assert_eq!(read(&summed), [(1, 3.0), (2, 12.0)]);
}

#[test]
fn three_numbers_of_four_chips_are_of_none_and_one_problem() {
    let chips = [chip(0, 1), chip(0, 2), chip(0, 3), chip(0, 4)];
    let mut three = values("a", DUTY, &[(0, 1.0), (1, 1.0), (2, 1.0)]);
    three.extend(values("a", USED, &[(0, 1.0), (1, 1.0), (2, 1.0)]));
    let attributed = attribute(&three, &chips, None);
    assert!(attributed.readings.is_empty());
    let problem = "a container with 4 chips of this host is reported with 3 devices";
    assert_eq!(attributed.problem.as_deref(), Some(problem));
}

#[test]
fn containers_have_the_values_of_the_chips_that_they_hold() {
    let chips = [chip(0, 1), chip(0, 2), chip(1, 3)];
    let mut both = values("b", DUTY, &[(0, 50.0)]);
    both.extend(values("a", DUTY, &[(0, 10.0), (1, 20.0)]));
    let allocations = [held("a", chips[0]), held("b", chips[1]), held("a", chips[2])];
    let attributed = attribute(&both, &chips, Some(&allocations));
    assert_eq!(read(&attributed), [(1, 0.1), (3, 0.2), (2, 0.5)]);
    let unknown = attribute(&both, &chips, None);
    assert!(unknown.readings.is_empty() && unknown.problem.is_some());
    let of_none = attribute(&values("c", DUTY, &[(0, 50.0)]), &chips, Some(&allocations));
    assert!(of_none.readings.is_empty() && of_none.problem.is_some(), "the container holds no chip");
}

#[test]
fn values_of_the_host_count_only_for_a_container_that_holds_it_all() {
    let chips = [chip(0, 1), chip(0, 2)];
    let host = [(0, 10.0), (1, 20.0)];
    let mut both = values("a", RuntimeQuantity::TensorUtilization, &host);
    let all = [held("a", chips[0]), held("a", chips[1])];
    assert_eq!(read(&attribute(&both, &chips, Some(&all))), [(1, 0.1), (2, 0.2)]);
    both.extend(values("b", RuntimeQuantity::TensorUtilization, &host));
    let shared = [held("a", chips[0]), held("b", chips[1])];
    assert_eq!(attribute(&both, &chips, Some(&shared)), Attributed::default());
}

#[test]
fn values_of_a_runtime_of_the_host_are_of_the_only_container_with_chips() {
    let chips = [chip(0, 1), chip(0, 2)];
    let mut own = values("", DUTY, &[(8, 10.0), (9, 20.0)]);
    own.iter_mut().for_each(|value| value.container = None);
    let [first, second] = chips.map(|chip| held("a", chip));
    let of = |allocations: &[Allocation]| attribute(&own, &chips, Some(allocations));
    assert_eq!(read(&of(&[first.clone(), second])), [(1, 0.1), (2, 0.2)]);
    assert_eq!(read(&of(&[])), [(1, 0.1), (2, 0.2)], "a process without a pod");
    // Two numbers of one chip are those of its cores.
    assert_eq!(read(&of(std::slice::from_ref(&first))), [(1, 0.15)]);
    let of_two = of(&[first, held("b", chips[1])]);
    assert!(of_two.readings.is_empty() && of_two.problem.is_some());
    // Its devices are its own, unlike those that the exporter reports of the host.
    let mut bandwidth = values("", RuntimeQuantity::BandwidthUtilization, &[(8, 50.0)]);
    bandwidth[0].container = None;
    assert_eq!(read(&attribute(&bandwidth, &chips, Some(&[held("a", chips[1])]))), [(2, 0.5)]);
}
