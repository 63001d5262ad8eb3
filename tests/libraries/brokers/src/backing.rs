//! What is behind an address.

use std::fmt;

use crate::{
    compose::{self, Container},
    missing::Missing,
    mock::Mock,
    process::Process,
};

/// Where a broker came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Its address stood in the environment.
    Environment,
    /// A container, by `docker compose`.
    Compose,
    /// A child process.
    Process,
    /// librdkafka's mock cluster inside this process: Kafka only, without `read_committed`, 5 MiB a partition.
    Mock,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "the one that the environment names",
            Self::Compose => "a container, by docker compose",
            Self::Process => "a child process",
            Self::Mock => "librdkafka's mock cluster, which does not honour read_committed and keeps 5 MiB a partition",
        })
    }
}

/// What is behind an address, and how it is stopped and started.
#[derive(Debug)]
pub(crate) enum Backing {
    Environment,
    Compose(Container),
    Process(Process),
    Mock(Mock),
}

impl Backing {
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Environment => Source::Environment,
            Self::Compose(_) => Source::Compose,
            Self::Process(_) => Source::Process,
            Self::Mock(_) => Source::Mock,
        }
    }

    pub(crate) fn stop(&mut self) {
        match self {
            Self::Environment => {}
            Self::Compose(container) => container.stop(),
            Self::Process(process) => process.stop(),
            Self::Mock(mock) => mock.stop(),
        }
    }

    pub(crate) fn kill(&mut self) {
        match self {
            Self::Environment => {}
            Self::Compose(container) => container.kill(),
            Self::Process(process) => process.kill(),
            Self::Mock(mock) => mock.stop(),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Self::Environment | Self::Mock(_) => {}
            Self::Compose(container) => container.pause(),
            Self::Process(process) => process.pause(),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Environment | Self::Mock(_) => {}
            Self::Compose(container) => container.resume(),
            Self::Process(process) => process.resume(),
        }
    }

    pub(crate) fn restart(&mut self, broker: &'static str, address: &str) -> Result<(), Missing> {
        match self {
            Self::Environment => Err(Missing::NotOurs { broker, address: address.to_owned() }),
            Self::Compose(container) => container.restart(),
            Self::Process(process) => process.restart(),
            Self::Mock(mock) => mock.restart(),
        }
    }
}

/// The address of a broker in the environment, once it has answered.
pub(crate) fn from_environment(
    broker: &'static str,
    variable: &'static str,
    answers: impl Fn(&str) -> bool,
) -> Result<Option<String>, Missing> {
    match std::env::var(variable) {
        Ok(address) if answers(&address) => Ok(Some(address)),
        Ok(address) => Err(Missing::NoAnswer { broker, variable, address }),
        Err(_) => Ok(None),
    }
}

/// Where a broker would come from.
pub(crate) fn find<P>(variable: &str, installed: impl FnOnce() -> Result<P, Missing>) -> Result<Source, Missing> {
    if std::env::var_os(variable).is_some() {
        Ok(Source::Environment)
    } else if compose::engine_answers() {
        Ok(Source::Compose)
    } else {
        installed().map(|_| Source::Process)
    }
}
