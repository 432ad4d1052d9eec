//! The order in which credentials are checked: few at a time, and few of the same client, so that a flood of wrong ones
//! delays its own client and hardly another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ClientNetwork, Refusal};

/// Further requests of the same network are refused.
const MAX_OF_A_NETWORK: usize = 4;

/// Requests whose credentials are being checked, or wait for it.
#[derive(Debug)]
pub(super) struct CheckQueue {
    slots: Arc<Semaphore>,
    waiting: Arc<Mutex<BTreeMap<ClientNetwork, usize>>>,
}

/// A turn: held while credentials are checked.
#[derive(Debug)]
pub(super) struct CheckTurn {
    _slot: OwnedSemaphorePermit,
    _waiting: WaitingEntry,
}

#[derive(Debug)]
struct WaitingEntry {
    network: ClientNetwork,
    waiting: Arc<Mutex<BTreeMap<ClientNetwork, usize>>>,
}

impl CheckQueue {
    pub(super) fn new(slots: usize) -> CheckQueue {
        CheckQueue { slots: Arc::new(Semaphore::new(slots)), waiting: Arc::default() }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, network: ClientNetwork) -> Result<CheckTurn, Refusal> {
        let entry = self.enter(network).ok_or(Refusal::Busy)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        Ok(CheckTurn { _slot: slot, _waiting: entry })
    }

    fn enter(&self, network: ClientNetwork) -> Option<WaitingEntry> {
        let mut waiting = locked(&self.waiting);
        let count = waiting.entry(network).or_default();
        if *count >= MAX_OF_A_NETWORK {
            return None;
        }
        *count += 1;
        Some(WaitingEntry { network, waiting: Arc::clone(&self.waiting) })
    }
}

impl Drop for WaitingEntry {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        match waiting.get_mut(&self.network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = waiting.remove(&self.network),
        }
    }
}

fn locked(waiting: &Mutex<BTreeMap<ClientNetwork, usize>>) -> MutexGuard<'_, BTreeMap<ClientNetwork, usize>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_pending(turn: impl Future<Output = Result<CheckTurn, Refusal>> + Unpin) -> bool {
        tokio::time::timeout(Duration::from_millis(10), turn).await.is_err()
    }

    fn network(address: &str) -> ClientNetwork {
        ClientNetwork::of(address.parse().expect("it is an address"))
    }

    #[tokio::test]
    async fn a_client_with_many_requests_is_refused_and_others_wait_for_few() {
        let queue = CheckQueue::new(1);
        let (flood, other) = (network("10.0.0.1"), network("10.0.0.2"));
        let first = queue.turn(flood).await.expect("the queue is empty");
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(queue.turn(flood))).collect();
        for turn in &mut waiting {
            assert!(is_pending(turn.as_mut()).await);
        }
        assert_eq!(queue.turn(flood).await.map(drop), Err(Refusal::Busy));
        let mut others = Box::pin(queue.turn(other));
        assert!(is_pending(others.as_mut()).await);
        drop(first);
        for turn in waiting {
            turn.await.expect("it was accepted");
        }
        others.await.expect("the others were checked");
        queue.turn(flood).await.expect("nothing waits any more");
    }
}
