//! Time that a processor worked. A wait for the peer costs none, and neither does another program on the same machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::subject::{BATCH, Failed, Subject, Threads};

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

/// The median nanoseconds of one operation of each. They take turns, batch by batch, so that what slows the machine slows
/// all of them.
pub fn medians(mut subjects: Vec<Subject>) -> Result<Vec<u128>, Failed> {
    let rounds = if crate::is_quick() { 11 } else { 201 };
    let count = subjects.len();
    let mut times = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        // Nobody is always the first.
        for turn in (0..count).map(|turn| (round + turn) % count) {
            times[turn].push(subjects[turn].batch(BATCH, reading)?);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() / u128::from(BATCH)
    };
    Ok(times.into_iter().map(median).collect())
}
