//! Threads on chosen cores.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this thread may use, in order.
#[must_use]
pub fn usable() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Keeps this thread, and those that it starts from here on, on `core`.
///
/// Where that is refused it stays where it was: then figures are noisier, not wrong.
pub fn pin_this_thread(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        let _ = sched_setaffinity(None, &set);
    }
}

/// Runs `work` on `core`; threads and processes that it starts stay there.
pub fn on_core<T>(core: Option<usize>, work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None);
    pin_this_thread(core);
    let done = work();
    if let (Some(_), Ok(before)) = (core, before) {
        let _ = sched_setaffinity(None, &before);
    }
    done
}
