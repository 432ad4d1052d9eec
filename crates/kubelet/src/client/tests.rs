#![allow(clippy::disallowed_methods, reason = "the socket is the test's own")]

use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::testing::{Played, pod};

const GPU: &str = "nvidia.com/gpu";

fn pods(answer: &Answer) -> Vec<&str> {
    answer.holds.iter().map(|hold| hold.pod.as_str()).collect()
}

#[tokio::test]
async fn a_restarted_kubelet_that_has_forgotten_its_pods_is_not_believed() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (played, mut kubelet) = (Played::default(), Kubelet::new(folder.path()));
    assert!(matches!(kubelet.list().await, Err(KubeletError::Absent { .. })));
    played.set(vec![pod("a", GPU, &["GPU-1", "GPU-2"])]);
    let first = played.start(folder.path()).expect("a socket can be made");
    assert_eq!(pods(&kubelet.list().await.expect("it answers")), ["a", "a"]);
    first.abort();
    played.set(Vec::new());
    played.start(folder.path()).expect("a socket can be made");
    let answer = kubelet.list().await.expect("it answers");
    assert_eq!((pods(&answer).len(), answer.complete), (2, false), "what was held still is");
    let connection = kubelet.connection.as_mut().expect("it is connected");
    connection.since = Instant::now().checked_sub(YOUNG).expect("the machine runs long enough");
    let answer = kubelet.list().await.expect("it answers");
    assert_eq!((pods(&answer).len(), answer.complete), (0, true), "now it has had its time");
}

#[tokio::test]
async fn an_answer_of_many_megabytes_is_read() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (played, mut kubelet) = (Played::default(), Kubelet::new(folder.path()));
    let long = "x".repeat(1000);
    played.set((0..8000).map(|number| pod(&format!("{number}-{long}"), GPU, &["GPU-1"])).collect());
    played.start(folder.path()).expect("a socket can be made");
    assert_eq!(kubelet.list().await.expect("8 MB are not too much").holds.len(), 8000);
}

#[tokio::test]
async fn a_kubelet_that_goes_is_an_error_and_comes_back() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (played, mut kubelet) = (Played::default(), Kubelet::new(folder.path()));
    played.set(vec![pod("a", GPU, &["GPU-1"])]);
    let first = played.start(folder.path()).expect("a socket can be made");
    kubelet.list().await.expect("it answers");
    first.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The socket file of a kubelet that was killed stays and refuses.
    std::fs::remove_file(folder.path().join(SOCKET)).expect("the socket is there");
    drop(UnixListener::bind(folder.path().join(SOCKET)).expect("a socket can be made"));
    let error = kubelet.list().await.expect_err("nobody listens");
    assert!(matches!(error, KubeletError::Failed { code: Code::Unavailable, .. }), "{error:?}");
    played.start(folder.path()).expect("a socket can be made");
    assert_eq!(pods(&kubelet.list().await.expect("it is back")), ["a"]);
}
