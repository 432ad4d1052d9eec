#![allow(clippy::disallowed_methods, reason = "the socket is the test's own")]

use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::testing::{FakeKubelet, pod};

const GPU: &str = "nvidia.com/gpu";

fn pods(report: &KubeletReport) -> Vec<&str> {
    report.holds.iter().map(|hold| hold.pod.as_str()).collect()
}

#[tokio::test]
async fn holds_outlive_a_restarted_kubelet_that_lacks_its_pods() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    assert!(matches!(kubelet.list().await, Err(KubeletError::Absent { .. })));
    fake.set_pods(vec![pod("a", GPU, &["GPU-1", "GPU-2"])]);
    let first = fake.start(directory.path()).expect("a socket can be created");
    assert_eq!(pods(&kubelet.list().await.expect("it responds")), ["a", "a"]);
    first.abort();
    fake.set_pods(Vec::new());
    fake.start(directory.path()).expect("a socket can be created");
    let report = kubelet.list().await.expect("it responds");
    assert_eq!((pods(&report).len(), report.complete), (2, false), "the previous holds are kept");
    let connection = kubelet.connection.as_mut().expect("it is connected");
    connection.since = Instant::now().checked_sub(STARTUP_GRACE).expect("the machine runs long enough");
    let report = kubelet.list().await.expect("it responds");
    assert_eq!((pods(&report).len(), report.complete), (0, true), "the grace period is over");
}

#[tokio::test]
async fn a_response_of_many_megabytes_is_read() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    let long = "x".repeat(1000);
    fake.set_pods((0..8000).map(|number| pod(&format!("{number}-{long}"), GPU, &["GPU-1"])).collect());
    fake.start(directory.path()).expect("a socket can be created");
    assert_eq!(kubelet.list().await.expect("8 MB are not too much").holds.len(), 8000);
}

#[tokio::test]
async fn a_stopped_kubelet_is_an_error_until_it_is_back() {
    let directory = TempDir::new().expect("a temporary directory can be created");
    let (fake, mut kubelet) = (FakeKubelet::default(), Kubelet::new(directory.path()));
    fake.set_pods(vec![pod("a", GPU, &["GPU-1"])]);
    let first = fake.start(directory.path()).expect("a socket can be created");
    kubelet.list().await.expect("it responds");
    first.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The socket file of a kubelet that was killed stays and refuses connections.
    std::fs::remove_file(directory.path().join(SOCKET)).expect("the socket exists");
    drop(UnixListener::bind(directory.path().join(SOCKET)).expect("a socket can be created"));
    let error = kubelet.list().await.expect_err("nothing listens");
    assert!(matches!(error, KubeletError::Failed { code: Code::Unavailable, .. }), "{error:?}");
    fake.start(directory.path()).expect("a socket can be created");
    assert_eq!(pods(&kubelet.list().await.expect("it is back")), ["a"]);
}
