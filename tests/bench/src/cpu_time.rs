//! Time that a processor worked. A wait for the peer costs none, and neither does another program on the same machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::subject::Threads;

/// The time that this thread, or this process, has had so far.
pub fn reading(threads: Threads) -> Duration {
    let clock = match threads {
        Threads::Caller => ClockId::ThreadCPUTime,
        Threads::All => ClockId::ProcessCPUTime,
    };
    // Both count up from zero, so neither conversion has anything to lose.
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
