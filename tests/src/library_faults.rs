//! Faults of a vendor's library, which no fact of the kernel may depend on: one table for each library, and what the agent does at each
//! fault.

use serde_json::json;

use crate::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
};

/// A library of a fixture, whose faults are tested.
#[derive(Clone, Copy, Debug)]
pub struct LibraryFaults {
    /// The fixture.
    pub fixture: &'static str,
    /// The arguments of the agent.
    pub arguments: &'static [&'static str],
    /// A call of each sample, which has the fault.
    pub call: &'static str,
    /// How many series there are while the library is sampled, and how they begin.
    pub sampled: (usize, &'static str),
    /// The series that counts the restarts of its process.
    pub restarts: &'static str,
    /// Asserts what does not depend on the samples of the library.
    pub assert_facts: fn(&Agent),
}

impl LibraryFaults {
    /// An agent that samples the library.
    pub fn start(&self, host: &FixtureHost) -> Agent {
        let agent = Agent::start(host.afd(self.arguments.iter().copied()));
        self.until_sampled(&agent);
        agent
    }

    fn until_sampled(&self, agent: &Agent) {
        let (count, series) = self.sampled;
        agent.until("the library is sampled", |agent| agent.count(series) == count);
    }

    fn restarts(&self, agent: &Agent) -> f64 {
        agent.value(self.restarts).expect("restarts are counted")
    }

    /// A call that hangs ends the process of the library and delays no scrape.
    ///
    /// # Panics
    /// When the process is not started again.
    pub fn hang(&self, host: &FixtureHost) {
        let agent = self.start(host);
        self.fail(host, &agent, "hang");
        assert!(self.restarts(&agent) >= 1.0);
    }

    /// The agent survives a crash and an abort in the library.
    pub fn crash_and_abort(&self) {
        for kind in ["crash", "abort"] {
            let host = Fixture::named(self.fixture).copy();
            let agent = self.start(&host);
            self.fail(&host, &agent, kind);
        }
    }

    fn fail(&self, host: &FixtureHost, agent: &Agent, kind: &str) {
        host.driver_root().fault(kind, &[self.call]);
        agent.until("what the library reports is absent", |agent| agent.count(self.sampled.1) == 0);
        (self.assert_facts)(agent);
        host.driver_root().fault(kind, &[]);
        self.until_sampled(agent);
    }

    /// A library that leaks memory is restarted.
    pub fn leak(&self) {
        let host = Fixture::named(self.fixture).copy();
        let agent = self.start(&host);
        host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
        agent.until("the library process was restarted", |agent| self.restarts(agent) >= 1.0);
        host.driver_root().update(|recording| recording["faults"] = json!({}));
        self.until_sampled(&agent);
        (self.assert_facts)(&agent);
    }
}
