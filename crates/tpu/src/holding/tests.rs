use afd_model::{AllocationMechanism, PciAddress};

use super::*;

fn chip(numa_node: u32, device: u8) -> OrderedChip {
    let id = PciAddress { domain: 0, bus: 0, device, function: 0 }.into();
    OrderedChip { numa_node: Some(numa_node), id, cores: 1, is_shareable: false }
}

/// A chip of a host whose chips several containers can have.
fn shared(device: u8) -> OrderedChip {
    OrderedChip { cores: 2, is_shareable: true, ..chip(0, device) }
}

fn container(pod: &str) -> RuntimeContainer {
    RuntimeContainer { namespace: "ml".to_owned(), pod: pod.to_owned(), container: "main".to_owned() }
}

fn values(pod: &str, quantity: RuntimeQuantity, values: &[(u64, f64)]) -> Vec<RuntimeValue> {
    let value = |(device, value): &(u64, f64)| RuntimeValue {
        quantity,
        container: Some(container(pod)),
        device: *device,
        value: Some(*value),
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

/// Values of which these devices have none.
fn without(mut values: Vec<RuntimeValue>, devices: &[u64]) -> Vec<RuntimeValue> {
    values.iter_mut().filter(|value| devices.contains(&value.device)).for_each(|value| value.value = None);
    values
}

/// As [`super::attribute`], where every port of a runtime answers.
fn attribute(
    values: &[RuntimeValue],
    chips: &[OrderedChip],
    allocations: Option<&[Allocation]>,
) -> Attributed {
    let all = SourceValues {
        is_of_exporter: is_of_exporter(values),
        values: values.to_vec(),
        ..SourceValues::default()
    };
    super::attribute(&all, chips, allocations, &PodNetworks::new())
}

/// The exporter names the container of each value.
fn is_of_exporter(values: &[RuntimeValue]) -> bool {
    values.iter().all(|value| value.container.is_some())
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
    both.extend(values("a", USED, &[(4, 1.0), (5, 2.0), (6, 4.0), (7, 8.0)]));
    let attributed = attribute(&both, &chips, None);
    assert_eq!(read(&attributed), [(1, 0.2), (1, 3.0), (2, 0.6), (2, 12.0)]);
}

#[test]
fn a_chip_without_a_value_of_each_core_has_none_and_moves_no_value_of_another() {
    let chips = [chip(0, 1), chip(0, 2)];
    let cores = [(4, 10.0), (5, 30.0), (6, 50.0), (7, 70.0)];
    let of = |devices: &[u64]| attribute(&without(values("a", DUTY, &cores), devices), &chips, None);
    assert_eq!(of(&[6, 7]), Attributed { problem: None, ..attribute_only(&chips, &[(1, 0.2)]) });
    assert_eq!(read(&of(&[4])), [(2, 0.6)]);
    assert_eq!(read(&of(&[5, 6])), []);
    let by_chip = without(values("a", DUTY, &cores[..2]), &[4]);
    assert_eq!(read(&attribute(&by_chip, &chips, None)), [(2, 0.3)]);
}

/// Shares of these chips.
fn attribute_only(chips: &[OrderedChip], shares: &[(u8, f64)]) -> Attributed {
    let id = |device: u8| chips.iter().find(|chip| chip.id.0.device == device).expect("it is a chip").id;
    let reading = |(device, value): &(u8, f64)| {
        (id(*device), Reading { quantity: Quantity::Utilization(Engine::Compute), value: *value })
    };
    Attributed { readings: shares.iter().map(reading).collect(), problem: None }
}

#[test]
fn a_device_that_one_quantity_lacks_is_one_without_a_value() {
    let chips = [chip(0, 1), chip(0, 2)];
    let of = |duty: &[(u64, f64)], used: &[(u64, f64)]| {
        let both = [values("a", DUTY, duty), values("a", USED, used)].concat();
        let attributed = attribute(&both, &chips, None);
        (read(&attributed), attributed.problem.is_some())
    };
    let cores = [(4, 1.0), (5, 1.0), (6, 1.0), (7, 1.0)];
    assert_eq!(of(&[(4, 10.0), (5, 30.0), (6, 50.0)], &cores), (vec![(1, 0.2), (1, 2.0), (2, 2.0)], false));
    assert_eq!(of(&[(5, 30.0)], &cores[..2]), (vec![(1, 1.0), (2, 0.3), (2, 1.0)], false));
    // Those of the first chip, or one of each.
    assert_eq!(of(&[(4, 10.0), (5, 30.0)], &cores), (vec![(1, 2.0), (2, 2.0)], true));
    // An older version numbers chips in one and cores in the other.
    let older = vec![(1, 0.1), (1, 2.0), (2, 0.3), (2, 2.0)];
    assert_eq!(of(&[(2, 10.0), (3, 30.0)], &cores), (older, false));
}

#[test]
fn values_that_no_chip_can_have_are_dropped_with_a_problem() {
    let chips = [chip(0, 1), chip(0, 2)];
    let of = |quantity, value| {
        let attributed = attribute(&values("a", quantity, &[(0, value), (1, 50.0)]), &chips, None);
        (read(&attributed).len(), attributed.problem.is_some())
    };
    let [kept, dropped] = [(2, false), (1, true)];
    for (quantity, value, expected) in [
        (DUTY, 0.0, kept),
        (DUTY, 100.2, kept),
        (DUTY, 101.0, dropped),
        (DUTY, -0.1, dropped),
        (RuntimeQuantity::BandwidthUtilization, 1e9, dropped),
        (USED, 0.0, kept),
        (USED, -1.0, dropped),
        (RuntimeQuantity::MemoryTotal, -1.0, dropped),
    ] {
        assert_eq!(of(quantity, value), expected, "{quantity:?} {value}");
    }
    let total = values("a", RuntimeQuantity::MemoryTotal, &[(0, 2.0), (1, 2.0)]);
    let both = [values("a", USED, &[(0, 2.0), (1, 3.0)]), total].concat();
    let attributed = attribute(&both, &chips, None);
    assert_eq!(read(&attributed), [(1, 2.0), (1, 2.0)]);
    let problem = "0000:00:02.0: more memory in use than there is was dropped";
    assert_eq!(attributed.problem.as_deref(), Some(problem));
}

#[test]
fn a_container_whose_chips_are_not_known_has_values_only_if_it_must_have_all() {
    let chips = [shared(1), shared(2), shared(3), shared(4)];
    let numbers = |count: u64| (0..count).map(|id| (id, 50.0)).collect::<Vec<_>>();
    let of = |count| attribute(&values("a", DUTY, &numbers(count)), &chips, None);
    // Four devices are the chips of the host or the cores of two of them.
    assert!(of(4).readings.is_empty() && of(4).problem.is_some());
    assert_eq!((of(8).readings.len(), of(8).problem), (4, None));
    let mut own = values("", DUTY, &numbers(4));
    own.iter_mut().for_each(|value| value.container = None);
    assert!(attribute(&own, &chips, Some(&[])).readings.is_empty(), "a process without a pod");
    // Values of the host do not show how many devices the container has.
    let host = values("a", RuntimeQuantity::TensorUtilization, &numbers(8));
    assert!(attribute(&host, &chips, None).readings.is_empty());
    // What the kubelet reports decides.
    let held = [held("a", chips[0]), held("a", chips[3])];
    assert_eq!(read(&attribute(&values("a", DUTY, &numbers(4)), &chips, Some(&held))), [(1, 0.5), (4, 0.5)]);
}

#[test]
fn some_of_several_runtimes_count_only_if_they_have_every_core() {
    let of = |chips: &[OrderedChip], count: u64, silent: &[u16]| {
        let numbers: Vec<_> = (0..count).map(|id| (id, 50.0)).collect();
        let mut own = values("", DUTY, &numbers);
        own.iter_mut().for_each(|value| value.container = None);
        let held: Vec<_> = chips.iter().map(|chip| held("a", *chip)).collect();
        let mut all = SourceValues { values: own, ..SourceValues::default() };
        if !silent.is_empty() {
            all.silent.insert(None, silent.to_vec());
        }
        let attributed = super::attribute(&all, chips, Some(&held), &PodNetworks::new());
        (attributed.readings.len(), attributed.problem.is_some())
    };
    let of_two_cores = [shared(1), shared(2), shared(3), shared(4)];
    assert_eq!(of(&of_two_cores, 4, &[8435, 8436]), (0, true));
    assert_eq!(of(&of_two_cores, 8, &[8435, 8436]), (4, false), "one process has all of them");
    assert_eq!(of(&of_two_cores, 4, &[]), (4, false));
    assert_eq!(of(&[chip(0, 1), chip(0, 2)], 2, &[8432]), (2, false));
    assert_eq!(of(&[chip(0, 1), chip(0, 2)], 1, &[8432]), (0, true));
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
