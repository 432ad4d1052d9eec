//! The memory of an agent before, during and after an attack.

use std::{
    fmt::{self, Display, Formatter},
    thread,
    time::{Duration, Instant},
};

use crate::{agent::Agent, is_release};

/// What the agent may have resident under any attack. Only a release build is held to it: a debug build has more at rest.
pub const MAX_RESIDENT_KIB: u64 = 24 * 1024;
/// What may remain of an attack, after one like it has warmed the allocator up.
pub const MAX_REMAINDER_KIB: u64 = 1024;
/// How long after an attack the figure of the bench is read. A busy machine may take longer to return memory.
const MEASURED_AFTER: Duration = Duration::from_secs(10);
/// The agent returns memory at least this often.
pub const RETURNED: Duration = Duration::from_secs(15);
/// How long a busy machine may take for it.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What was read before an attack, and the most since then.
#[derive(Clone, Copy, Debug)]
pub struct AttackMemory {
    private: u64,
    peak_private: u64,
    peak_resident: u64,
}

impl AttackMemory {
    /// Now, before the attack.
    pub fn before(agent: &Agent) -> AttackMemory {
        let private = agent.memory_kib("RssAnon");
        AttackMemory { private, peak_private: private, peak_resident: agent.memory_kib("VmRSS") }
    }

    /// Reads again, during the attack.
    pub fn observe(&mut self, agent: &Agent) {
        self.peak_private = self.peak_private.max(agent.memory_kib("RssAnon"));
        self.peak_resident = self.peak_resident.max(agent.memory_kib("VmRSS"));
    }

    /// How much more private memory there is than before, in KiB, when the agent has returned memory and has no more than a limit.
    /// After a long time it is what there is.
    pub fn remainder(&self, agent: &Agent, limit: u64) -> u64 {
        let ended = Instant::now();
        thread::sleep(RETURNED);
        loop {
            let remainder = agent.memory_kib("RssAnon").saturating_sub(self.private);
            if remainder < limit || ended.elapsed() > TIMEOUT {
                return remainder;
            }
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// Asserts what the attack cost, when its memory was returned, and prints it in a line that `cargo xtask bench` reads.
    ///
    /// # Panics
    /// When the attack cost too much: `max_growth` KiB more private memory than before, in a release build [`MAX_RESIDENT_KIB`]
    /// resident, or [`MAX_REMAINDER_KIB`] that remain.
    #[expect(clippy::print_stdout, reason = "tests print what they measure")]
    pub fn assert_within_limits(&self, attack: &str, agent: &Agent, max_growth: u64) {
        let AttackMemory { private, peak_private, peak_resident } = self;
        thread::sleep(MEASURED_AFTER);
        let measured = agent.memory_kib("RssAnon").saturating_sub(*private);
        println!("memory under attack: {attack}: peak {peak_resident} KiB, remainder {measured} KiB");
        let remainder = self.remainder(agent, MAX_REMAINDER_KIB);
        println!("{self}");
        assert!(*peak_private < private + max_growth, "{attack}: {self}");
        assert!(!is_release() || *peak_resident < MAX_RESIDENT_KIB, "{attack}: {self}");
        assert!(remainder < MAX_REMAINDER_KIB, "{attack}: {remainder} KiB remain; {self}");
    }
}

impl Display for AttackMemory {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let AttackMemory { private, peak_private, peak_resident } = self;
        write!(
            formatter,
            "private {private} KiB before, at most {peak_private} KiB since; resident at most {peak_resident} KiB"
        )
    }
}
