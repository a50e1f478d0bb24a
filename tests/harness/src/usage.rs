//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads. The kernel counts in steps of 10 ms.
    pub cpu: Duration,
    /// Memory in RAM, shared pages included, in KiB: `VmRSS`.
    pub rss_kib: u64,
    /// Memory in RAM, shared pages divided among those who share them, in KiB.
    pub pss_kib: u64,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When there is no such process, or its files cannot be read.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("process {pid}: {file}"))
        };
        let ticks = cpu_ticks(&read("stat")?).context("no CPU time")?;
        let cpu = Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32;
        let rss_kib = kib(&read("status")?, "VmRSS:").context("no VmRSS")?;
        let pss_kib = kib(&read("smaps_rollup")?, "Pss:").context("no Pss")?;
        Ok(Self { cpu, rss_kib, pss_kib })
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name before them may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse() {
        let stat = "7 (a) b 1) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 0 && usage.pss_kib > 0, "{usage:?}");
    }
}
