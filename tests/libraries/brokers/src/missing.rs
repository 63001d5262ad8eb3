//! Why a broker cannot be had.

use std::io;

use thiserror::Error;

/// Why a broker cannot be had, as one sentence that ends with what mends it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Missing {
    /// The broker's program is not on this machine.
    #[error("{broker} cannot be started, {what} is not installed: {mend}")]
    NotInstalled {
        /// The broker.
        broker: &'static str,
        /// What is not there.
        what: &'static str,
        /// The command that mends it.
        mend: &'static str,
    },
    /// The environment names a broker that does not answer.
    #[error("{variable} is set, but no {broker} answers at {address}: start it there, or unset {variable}")]
    NoAnswer {
        /// The broker.
        broker: &'static str,
        /// The variable.
        variable: &'static str,
        /// Its value.
        address: String,
    },
    /// The broker was started and did not get ready.
    #[error("{broker} did not start: mend what its log says, then try again; the log ends with\n{log}")]
    NotReady {
        /// The broker.
        broker: &'static str,
        /// The last lines of its log.
        log: String,
    },
    /// The broker belongs to somebody else, so it is not restarted.
    #[error("{broker} at {address} was not started by this process and is not restarted: use `own()`")]
    NotOurs {
        /// The broker.
        broker: &'static str,
        /// Where it is.
        address: String,
    },
    /// The machine refused a file, a port or a process.
    #[error("{broker} cannot be started, {what}: free the resource, then try again")]
    Machine {
        /// The broker.
        broker: &'static str,
        /// What was tried.
        what: &'static str,
        /// What the machine answered.
        source: io::Error,
    },
}

impl Missing {
    pub(crate) fn machine(broker: &'static str, what: &'static str) -> impl FnOnce(io::Error) -> Missing {
        move |source| Missing::Machine { broker, what, source }
    }
}
