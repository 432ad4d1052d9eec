//! What must hold over time, for random sequences of what happens to a machine, to its agent and to its Node. The stages
//! `track`, `derive` and `publish` are the real ones; the clock, the probes and the API server are played.
#![allow(missing_docs, reason = "a test has no users")]

#[path = "track_property/agent.rs"]
mod agent;
#[path = "track_property/expectations.rs"]
mod expectations;
#[path = "track_property/ledger.rs"]
mod ledger;
#[path = "track_property/node_view.rs"]
mod node_view;
#[path = "track_property/world.rs"]
mod world;

use std::time::Duration;

use afd_publish::testing::{FakeApi, FakeNode, FakeNodeField};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::json;

use agent::{Agent, NODE};
use expectations::{Expectations, Observed, Verdict};
use node_view::NodeView;
use world::{Event, KINDS, MAX_LATE, SLOTS, World};

/// So many sequences are played, always the same ones.
const SEQUENCES: u32 = 32;
/// After so long without any event all graces are over: ten minutes after the end of a signal, and two hours of an operator's release.
const REST: [Duration; 50] = [Duration::from_secs(170); 50];

/// A machine, and what happens to it.
#[derive(Clone, Debug)]
struct Story {
    boards: Vec<usize>,
    uptime: u64,
    chapters: Vec<Chapter>,
}

/// An event, and the observations after it.
#[derive(Clone, Debug)]
struct Chapter {
    event: Event,
    observations: usize,
    pause: u64,
    /// Whether the container of the agent ends after each second observation.
    crashes: bool,
}

fn stories() -> impl Strategy<Value = Story> {
    let calm = (Event::any(), 1..12_usize, 5..60_u64).prop_map(|(event, observations, pause)| Chapter {
        event,
        observations,
        pause,
        crashes: false,
    });
    let crash_loop = (Event::any(), 1..24_usize, 5..30_u64)
        .prop_map(|(event, observations, pause)| Chapter { event, observations, pause, crashes: true });
    let chapters = vec(prop_oneof![5 => calm, 1 => crash_loop], 1..40);
    // Half of the machines have run for so long that their boards are learnt.
    let first = select(vec![1, 40]).prop_map(|observations| Chapter {
        event: Event::Quiet,
        observations,
        pause: 20,
        crashes: false,
    });
    let boards = vec(0..KINDS.len(), 1..=SLOTS);
    (boards, select(vec![30, 10_800]), first, chapters).prop_map(|(boards, uptime, first, chapters)| {
        let chapters = [vec![first], chapters].concat();
        Story { boards, uptime, chapters }
    })
}

#[test]
fn what_is_believed_and_written_follows_what_happens() {
    let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&stories(), |story| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime can be built");
        runtime.block_on(play(&story)).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn play(story: &Story) -> Verdict {
    let mut game = Game::new(story);
    for (number, chapter) in story.chapters.iter().enumerate() {
        game.begin(&chapter.event);
        for observation in 1..=chapter.observations {
            let place = |why| format!("chapter {number}, observation {observation}: {why}");
            game.observe(Duration::from_secs(chapter.pause)).await.map_err(place)?;
            // At its first observation an agent has not read the Node.
            if chapter.crashes && observation % 2 == 0 {
                game.restart(true);
            }
        }
    }
    game.begin(&Event::Signal(None));
    // The Node describes this boot before the long pauses.
    for pause in [Duration::from_secs(10); MAX_LATE as usize].into_iter().chain(REST) {
        game.observe(pause).await.map_err(|why| format!("at rest: {why}"))?;
    }
    let rested = game.node();
    for pause in &REST[..10] {
        game.observe(*pause).await.map_err(|why| format!("after the rest: {why}"))?;
    }
    if game.node().is_version_of(&rested) { Ok(()) } else { Err("the Node changes by itself".to_owned()) }
}

/// A machine, its agent and its Node.
struct Game {
    world: World,
    api: FakeApi,
    agent: Option<Agent>,
    expectations: Expectations,
    /// The Node after the last observation.
    last: NodeView,
}

impl Game {
    fn new(story: &Story) -> Game {
        let api = FakeApi::new([FakeNode::new(NODE)]);
        let mut game = Game {
            world: World::new(&story.boards, Duration::from_secs(story.uptime)),
            agent: Some(Agent::start(&api, None)),
            expectations: Expectations::default(),
            last: NodeView::default(),
            api,
        };
        game.expectations.agent_started(false);
        game.write_node();
        game
    }

    /// What the kubelet does.
    fn write_node(&mut self) {
        let world = &mut self.world;
        self.api.with_node(NODE, |node| world.write_node(node));
    }

    fn node(&self) -> NodeView {
        self.api.with_node(
            NODE,
            |node| {
                if self.last.is_of(node) { self.last.clone() } else { NodeView::of(node) }
            },
        )
    }

    fn begin(&mut self, event: &Event) {
        match event {
            Event::RestartContainer => self.restart(true),
            Event::RestartPod => self.restart(false),
            Event::OtherManager { label, removes } => self.change_label(*label, *removes),
            _ => {}
        }
        self.world.play(event);
        match event {
            Event::OtherMachine(_) => {
                self.restart(false);
                self.expectations.machine_changed();
            }
            Event::Reboot(_) => self.restart(false),
            _ => {}
        }
    }

    fn restart(&mut self, has_state: bool) {
        let state = self.agent.take().map(Agent::stop).filter(|_| has_state);
        let boot_id = self.world.boot_id();
        self.agent = Some(Agent::start(&self.api, state.map(|state| (state, boot_id.as_str()))));
        self.expectations.agent_started(has_state);
    }

    /// A label that the agent owns gets another value and owner, or is removed.
    fn change_label(&mut self, label: usize, removes: bool) {
        let owned = self.node().owned;
        let Some(key) = owned.iter().nth(label % owned.len().max(1)) else { return };
        let value = (!removes).then(|| json!("other"));
        self.api.with_node(NODE, |node| node.update("kubectl", FakeNodeField::Label(key.clone()), value));
    }

    /// Lets time pass, and the agent observe.
    async fn observe(&mut self, pause: Duration) -> Verdict {
        self.world.pass(pause);
        self.write_node();
        let before = self.node();
        self.api.take_writes();
        let turn = self.agent.as_mut().expect("an agent runs").observe(&self.world);
        tokio::time::sleep(pause).await;
        let (after, writes) = (self.node(), self.api.take_writes());
        let observed = Observed {
            world: &self.world,
            turn: &turn,
            before: &before,
            after: &after,
            writes: &writes,
            is_node_changed: !before.is_version_of(&self.last),
        };
        let verdict = self.expectations.check(&observed);
        self.last = after;
        verdict
    }
}
