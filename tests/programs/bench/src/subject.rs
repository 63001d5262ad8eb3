//! What is measured.

use std::{
    error::Error,
    hint::black_box,
    ops::{AddAssign, Sub},
    thread,
    time::{Duration, Instant},
};

use opentelemetry::Context;
use otel_messaging::Instrumentation;

use crate::{
    mode::Mode,
    path::{Path, Side},
};

/// Whatever a client, a peer or the machine refuses.
pub type Failed = Box<dyn Error + Send + Sync>;

/// The most operations between two preparations: fewer than any of the clients queues.
pub const BATCH: u32 = 1_000;

/// How long a peer may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One path of one client, alone or instrumented.
pub(crate) trait Driven {
    /// Makes so many operations possible, at most [`BATCH`]. Not measured.
    fn prepare(&mut self, _operations: u32) -> Result<(), Failed> {
        Ok(())
    }

    /// Does them.
    fn operate(&mut self, operations: u32) -> Result<(), Failed>;

    /// Does what there is to do with the answers that have come so far, where the client wants to be called for that.
    /// Measured when there was something to do.
    fn answers(&mut self) -> Answers {
        Answers::Complete
    }

    /// Waits until the client is at rest again. Not measured.
    fn settle(&mut self) -> Result<(), Failed> {
        Ok(())
    }
}

/// What came of asking for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Nothing yet.
    None,
    /// Some, and more are to come.
    Some,
    /// All.
    Complete,
}

/// A path on one side, connected to its peer and warm.
pub struct Subject {
    driven: Box<dyn Driven>,
    threads: Threads,
    ambient: Context,
}

/// The threads whose work a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one that calls the client.
    Caller,
    /// That one, and the client's own.
    All,
}

impl Subject {
    /// Connects to the peer, and sends or receives some messages. The mode is the one that is installed.
    pub fn new(path: Path, side: Side, mode: Mode) -> Result<Self, Failed> {
        Self::instrumented(path, side, mode, mode.instrumentation())
    }

    /// As [`Subject::new`], and ours is given another instrumentation than the mode's.
    pub fn instrumented(path: Path, side: Side, mode: Mode, instrumentation: Instrumentation) -> Result<Self, Failed> {
        let ambient = if path.is_send() { mode.request() } else { Context::new() };
        let mut subject = Self { driven: path.on(side, instrumentation)?, threads: path.threads(), ambient };
        for _ in 0..if crate::is_quick() { 1 } else { 3 } {
            subject.batch(BATCH, |_| Duration::ZERO)?;
        }
        Ok(subject)
    }

    /// One batch of operations, and how far it moved whatever is read before and after.
    pub fn batch<R>(&mut self, operations: u32, reading: impl Fn(Threads) -> R) -> Result<R, Failed>
    where
        R: Sub<Output = R> + AddAssign + Default,
    {
        let _ambient = self.ambient.clone().attach();
        let driven = &mut *self.driven;
        driven.prepare(operations)?;

        let mut moved = R::default();
        let before = reading(self.threads);
        let result = operate(driven, operations);
        moved += reading(self.threads) - before;
        result?;

        let start = Instant::now();
        loop {
            let before = reading(self.threads);
            let answers = answers(driven);
            let after = reading(self.threads);
            if answers != Answers::None {
                moved += after - before;
            }
            if answers == Answers::Complete {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err("the peer does not answer".into());
            }
            thread::sleep(Duration::from_micros(100));
        }

        driven.settle()?;
        Ok(moved)
    }
}

// The two parts of a batch that count. Never inlined: callgrind knows them by their names.

#[inline(never)]
fn operate(driven: &mut dyn Driven, operations: u32) -> Result<(), Failed> {
    black_box(driven).operate(black_box(operations))
}

#[inline(never)]
fn answers(driven: &mut dyn Driven) -> Answers {
    black_box(driven).answers()
}
