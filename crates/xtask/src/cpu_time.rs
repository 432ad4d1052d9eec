//! The CPU time of a process, from `/proc/PID/stat` (`Documentation/filesystems/proc.rst`).

use std::{fs, time::Duration};

use anyhow::Context;

/// CPU time in user and in kernel mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CpuTime {
    /// Of the process itself.
    pub(crate) own: Duration,
    /// Of its descendants that have ended and were waited for.
    pub(crate) descendants: Duration,
}

impl CpuTime {
    /// Of a process that has not been waited for.
    pub(crate) fn of(process: u32) -> anyhow::Result<CpuTime> {
        let path = format!("/proc/{process}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let (own, descendants) = ticks(&stat).with_context(|| format!("parsing {path}"))?;
        let seconds = |ticks: u64| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        Ok(CpuTime { own: seconds(own), descendants: seconds(descendants) })
    }
}

/// The sums of `utime` and `stime`, and of `cutime` and `cstime`: the fields 14 to 17. The second field is a name in
/// parentheses, which may contain anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let mut sum = || Some(fields.next()?? + fields.next()??);
    Some((sum()?, sum()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_a_name_with_parentheses() {
        let stat = "42 (a ) 9) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 3 1 20 0 3 0 100 1 2";
        assert_eq!(ticks(stat), Some((22, 4)));
        assert_eq!(ticks("42 (afd"), None);
    }

    #[test]
    fn this_process_has_cpu_time() {
        CpuTime::of(std::process::id()).expect("the kernel reports it");
    }
}
