//! Letting NVIDIA's driver go, so that it can be replaced: who wishes it, and the loop that does it.
//!
//! It is let go while the Node says that the driver is about to be replaced, and from `afd release nvidia` on until
//! `--end`, until another version of the driver is loaded, or until an upgrade that the Node told of is over.

use std::sync::Arc;

use afd_model::{Inventory, Vendor};
use tokio::sync::watch;

use crate::survey::Survey;

/// The probe that holds the driver.
const PROBE: &str = "nvidia";

/// What is wished, and what is so.
#[derive(Clone)]
pub struct Release {
    wishes: watch::Sender<Wishes>,
    state: watch::Sender<State>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Who wishes the driver to be let go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Wishes {
    somebody: bool,
    node: bool,
}

impl Wishes {
    fn any(self) -> bool {
        self.somebody || self.node
    }
}

/// Whether the driver is held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It may be.
    #[default]
    Held,
    /// It is not.
    LetGo,
    /// The process that held it was killed and has not ended: it hangs within the driver.
    Hanging,
}

impl Release {
    /// Nobody wishes it yet. `wake` has the loop look.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Release {
        Release {
            wishes: watch::Sender::new(Wishes::default()),
            state: watch::Sender::new(State::default()),
            wake,
        }
    }

    /// Somebody wishes the driver to be let go, or taken back.
    pub fn ask(&self, let_go: bool) {
        self.wish(|wishes| wishes.somebody = let_go);
    }

    /// Whether the Node says that the driver is about to be replaced. When that is over nobody else wishes it either.
    pub fn node_says(&self, near: bool) {
        self.wish(|wishes| {
            wishes.somebody &= near || !wishes.node;
            wishes.node = near;
        });
    }

    /// Whether somebody wishes the driver to be let go.
    pub fn is_wished(&self) -> bool {
        self.wishes.borrow().any()
    }

    /// The state, once it is as wished.
    pub async fn settled(&self) -> State {
        let mut state = self.state.subscribe();
        loop {
            let now = *state.borrow_and_update();
            // Without a sender there is no change, and we are one.
            if (now != State::Held) == self.is_wished() || state.changed().await.is_err() {
                return now;
            }
        }
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        let changed = self.wishes.send_if_modified(|wishes| {
            let before = *wishes;
            change(wishes);
            *wishes != before
        });
        if changed {
            (self.wake)();
        }
    }
}

/// The loop's side.
pub struct Holder {
    release: Release,
    state: State,
    /// The driver that was let go.
    version: Option<String>,
}

impl Holder {
    /// The driver is held.
    pub fn new(release: Release) -> Holder {
        Holder { release, state: State::Held, version: None }
    }

    /// Lets the driver go or takes it back, as it is wished now.
    pub fn follow(&mut self, survey: &mut Survey, inventory: &Inventory) {
        let version = driver_version(inventory);
        let away = self.state != State::Held;
        if away && version.is_some() && version != self.version {
            self.release.ask(false);
        }
        let wished = self.release.is_wished();
        match (away, wished) {
            (false, true) => {
                let ended = survey.release(PROBE);
                self.state = if ended { State::LetGo } else { State::Hanging };
                tracing::info!(
                    ended,
                    "NVIDIA's driver is let go; its moving values are absent until it is taken back"
                );
            }
            (true, false) => {
                survey.take_back(PROBE);
                self.state = State::Held;
                tracing::info!("NVIDIA's driver is taken back");
            }
            _ => return,
        }
        self.version = version;
        self.release.state.send_replace(self.state);
    }
}

/// The driver that is loaded, or was last.
fn driver_version(inventory: &Inventory) -> Option<String> {
    let mut devices = inventory.devices.iter().filter(|device| device.vendor == Vendor::Nvidia);
    devices.find_map(|device| device.driver_version.value().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release::new(Arc::new(|| ()))
    }

    #[test]
    fn the_nodes_word_and_somebodys_are_both_heard() {
        let release = release();
        release.node_says(true);
        release.ask(false);
        assert!(release.is_wished(), "the Node still says so");
        release.node_says(false);
        assert!(!release.is_wished());
        release.ask(true);
        release.node_says(false);
        assert!(release.is_wished(), "a Node that says nothing changes nothing");
    }

    #[test]
    fn an_upgrade_that_is_over_ends_what_somebody_wished() {
        let release = release();
        release.ask(true);
        release.node_says(true);
        release.node_says(false);
        assert!(!release.is_wished());
    }
}
