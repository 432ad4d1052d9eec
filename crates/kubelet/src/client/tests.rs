#![allow(clippy::disallowed_methods, reason = "the socket is the test's own")]

use std::collections::BTreeSet;

use afd_model::{Device, Inventory, PciAddress, Variant, Vendor};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tonic::Status;

use super::*;
use crate::{
    DraAttributes,
    testing::{FakeKubelet, pod},
};

const GPU: &str = "nvidia.com/gpu";
const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:02:00.0";

fn pods(report: &KubeletReport) -> Vec<&str> {
    report.allocations.iter().map(|allocation| allocation.pod.as_str()).collect()
}

/// The names of two GPUs, by their addresses.
fn names() -> Arc<UnitNames> {
    let device = |bus| {
        let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
        Device::bare(address, Vendor::Nvidia, Variant::Gpu)
    };
    let inventory = Inventory { devices: vec![device(1), device(2)], ..Inventory::default() };
    Arc::new(UnitNames::new(&inventory, &DraAttributes::new(), |_| None))
}

#[tokio::test]
async fn holds_outlive_a_restarted_kubelet_that_lacks_its_pods() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = names();
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    assert!(matches!(kubelet.list(&names).await, Err(KubeletError::Absent { .. })));
    fake.set_pods(vec![pod("a", GPU, &[FIRST, SECOND])]);
    let first = fake.start(directory.path()).expect("a socket can be created");
    assert_eq!(pods(&kubelet.list(&names).await.expect("it responds")), ["a", "a"]);
    first.abort();
    fake.set_pods(Vec::new());
    fake.start(directory.path()).expect("a socket can be created");
    let report = kubelet.list(&names).await.expect("it responds");
    assert_eq!((pods(&report).len(), report.complete), (2, false), "the previous holds are kept");
    let connection = kubelet.connection.as_mut().expect("it is connected");
    connection.since = Instant::now().checked_sub(STARTUP_GRACE);
    let report = kubelet.list(&names).await.expect("it responds");
    assert_eq!((pods(&report).len(), report.complete), (0, true), "the grace period is over");
}

#[tokio::test]
async fn what_is_held_does_not_depend_on_the_request_for_what_is_allocatable() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = names();
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    fake.set_pods(vec![pod("a", GPU, &[FIRST])]);
    fake.fail_offered(Status::unknown("PodResources API GetAllocatableResources disabled"));
    fake.start(directory.path()).expect("a socket can be created");
    let report = kubelet.list(&names).await.expect("it says what is held");
    assert_eq!((pods(&report), report.ready.as_ref()), (vec!["a"], None));
    let error = kubelet.allocatable_error().expect("it failed").to_string();
    assert!(error.contains("disabled"), "{error}");

    fake.offer(GPU, &[FIRST.to_owned()]);
    let past = |by| Some(Instant::now().checked_sub(by).expect("the machine runs long enough"));
    kubelet.connection.as_mut().expect("it is connected").since = past(STARTUP_GRACE);
    let ready = kubelet.list(&names).await.expect("it responds").ready;
    assert_eq!((ready.as_ref().map(BTreeSet::len), kubelet.allocatable_error().is_none()), (Some(1), true));
    fake.fail_offered(Status::internal("for a moment"));
    fake.set_pods(vec![pod("b", GPU, &[SECOND])]);
    for _ in 0..2 {
        let report = kubelet.list(&names).await.expect("it says what is held");
        assert_eq!((pods(&report), &report.ready), (vec!["b"], &ready), "the last response is kept");
        assert!(report.complete, "another connection to the same kubelet is no other kubelet");
        assert!(kubelet.allocatable_error().is_some());
    }
    kubelet.allocatable_at = past(MAX_AGE);
    assert_eq!(kubelet.list(&names).await.expect("it says what is held").ready, None, "it has expired");
}

#[tokio::test]
async fn a_response_of_many_megabytes_is_read() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = names();
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    let long = "x".repeat(250);
    fake.set_pods((0..32_000).map(|number| pod(&format!("{long}-{}", number % 8), GPU, &[FIRST])).collect());
    fake.start(directory.path()).expect("a socket can be created");
    let report = kubelet.list(&names).await.expect("8 MB are not too much");
    assert_eq!((pods(&report).len(), report.skipped), (8, 0));
}

#[tokio::test]
async fn a_response_that_has_not_changed_is_not_joined_again() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = names();
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    fake.set_pods(vec![pod("a", GPU, &[FIRST])]);
    fake.start(directory.path()).expect("a socket can be created");
    let report = kubelet.list(&names).await.expect("it responds");
    assert_eq!((pods(&report), fake.calls()), (vec!["a"], 1));
    kubelet.held.as_mut().expect("it is known").1.skipped = 7;
    assert_eq!(kubelet.list(&names).await.expect("it responds").skipped, 7, "the joined response is kept");
    assert_eq!(fake.calls(), 2);
    fake.set_pods(vec![pod("b", GPU, &[SECOND])]);
    let report = kubelet.list(&names).await.expect("it responds");
    assert_eq!((pods(&report), report.skipped), (vec!["a", "b"], 0), "with what it said before");
    assert_eq!(fake.calls(), 4, "it was read to compare, and once more to join");
    let report = kubelet.list(&self::names()).await.expect("it responds");
    assert_eq!((pods(&report), fake.calls()), (vec!["a", "b"], 5), "other names are joined at once");
}

#[tokio::test]
async fn a_stopped_kubelet_is_an_error_until_it_is_back() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = names();
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    fake.set_pods(vec![pod("a", GPU, &[FIRST])]);
    let first = fake.start(directory.path()).expect("a socket can be created");
    kubelet.list(&names).await.expect("it responds");
    first.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The socket file of a kubelet that was killed stays and refuses connections.
    std::fs::remove_file(directory.path().join(SOCKET)).expect("the socket exists");
    drop(UnixListener::bind(directory.path().join(SOCKET)).expect("a socket can be created"));
    let error = kubelet.list(&names).await.expect_err("nothing listens");
    assert!(matches!(error, KubeletError::Failed { code: Code::Unavailable, .. }), "{error:?}");
    fake.start(directory.path()).expect("a socket can be created");
    assert_eq!(pods(&kubelet.list(&names).await.expect("it is back")), ["a"]);
}
