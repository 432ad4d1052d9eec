//! The memory of an agent before, during and after an attack.

use std::fmt::{self, Display, Formatter};

use crate::{agent::Agent, is_release};

/// What the agent may have resident under any attack. Only a release build is held to it: a debug build has more at rest.
pub const MAX_RESIDENT_KIB: u64 = 24 * 1024;
/// What may remain of an attack, after one like it has warmed the allocator up.
pub const MAX_REMAINDER_KIB: u64 = 1024;

/// What was read before an attack, and the most since then.
#[derive(Clone, Copy, Debug)]
pub struct AttackMemory {
    resident: u64,
    private: u64,
    peak: u64,
}

impl AttackMemory {
    /// Now, before the attack.
    pub fn before(agent: &Agent) -> AttackMemory {
        let resident = agent.memory_kib("VmRSS");
        AttackMemory { resident, private: agent.memory_kib("RssAnon"), peak: resident }
    }

    /// Looks again, during the attack.
    pub fn look(&mut self, agent: &Agent) {
        self.peak = self.peak.max(agent.memory_kib("VmRSS"));
    }

    /// How much more private memory there is now than before, in KiB.
    pub fn remainder(&self, agent: &Agent) -> u64 {
        agent.memory_kib("RssAnon").saturating_sub(self.private)
    }

    /// Prints what the attack cost, some seconds after it, in a line that `cargo xtask bench` reads.
    ///
    /// # Panics
    /// When the attack cost too much: `max_growth` KiB more resident than before, [`MAX_RESIDENT_KIB`] in a release build, or
    /// [`MAX_REMAINDER_KIB`] that remain.
    #[expect(clippy::print_stdout, reason = "tests print what they measure")]
    pub fn hold(&self, attack: &str, agent: &Agent, max_growth: u64) {
        let remainder = self.remainder(agent);
        println!("memory under attack: {attack}: peak {} KiB, remainder {remainder} KiB", self.peak);
        println!("{self}");
        let limit = self.resident + max_growth;
        assert!(self.peak < if is_release() { MAX_RESIDENT_KIB } else { limit }, "{attack}: {self}");
        assert!(remainder < MAX_REMAINDER_KIB, "{attack}: {remainder} KiB remain; {self}");
    }
}

impl Display for AttackMemory {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let AttackMemory { resident, private, peak } = self;
        write!(
            formatter,
            "private {private} KiB before; resident {resident} KiB before, at most {peak} KiB since"
        )
    }
}
