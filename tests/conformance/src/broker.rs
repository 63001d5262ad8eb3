//! The three brokers: what there is to do on each, and what it must look like.

use std::{fmt::Write, time::Duration};

use futures::{StreamExt, stream};

use crate::{
    kafka, nats, rabbitmq,
    scenario::{Operation, Scenario},
    stage::Stage,
};

/// One broker, its adapter's operations and their scenarios.
pub(crate) struct Broker {
    /// Also `messaging.system`.
    pub(crate) name: &'static str,
    /// The scope of its spans.
    pub(crate) scope: &'static str,
    pub(crate) operations: &'static [Operation],
    /// What the convention recommends and the client does not know, or is not asked: attribute and reason.
    pub(crate) left_out: &'static [(&'static str, &'static str)],
    /// What is told where the scenarios' brokers and names are not: attribute and condition.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
    pub(crate) scenarios: &'static [Scenario],
    /// Starts it; it ends with what is given back.
    pub(crate) start: fn() -> Result<Started, brokers::Missing>,
}

/// A broker that runs, and where.
pub(crate) struct Started {
    pub(crate) address: String,
    pub(crate) _running: Box<dyn Send>,
}

pub(crate) static BROKERS: [&Broker; 3] = [&kafka::KAFKA, &rabbitmq::RABBITMQ, &nats::NATS];

/// How many scenarios run side by side: most wait for their broker.
const AT_ONCE: usize = 6;

const DEADLINE: Duration = Duration::from_secs(60);

impl Broker {
    pub(crate) fn list(&self) -> String {
        let mut text = String::new();
        for Scenario { name, does, shows, .. } in self.scenarios {
            let _ = writeln!(text, "{}/{name}: {does}", self.name);
            for line in shows.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }

    /// Performs these scenarios, or all; whether all could be.
    pub(crate) async fn perform(&self, names: &[&str]) -> bool {
        let start = self.start;
        let started = tokio::task::spawn_blocking(start).await.expect("the start does not panic");
        let started = match started {
            Ok(started) => started,
            Err(missing) => {
                eprintln!("{missing}");
                return false;
            }
        };
        let wanted = |scenario: &&Scenario| names.is_empty() || names.contains(&scenario.name);
        let scenarios: Vec<_> = self.scenarios.iter().filter(wanted).collect();
        if scenarios.is_empty() {
            eprintln!("{} has no such scenario", self.name);
            return false;
        }
        let performed = scenarios.into_iter().map(|scenario| perform(self.name, scenario, started.address.clone()));
        stream::iter(performed).buffer_unordered(AT_ONCE).fold(true, async |all, done| all && done).await
    }
}

/// Performs one scenario; whether it could be.
async fn perform(broker: &str, scenario: &'static Scenario, address: String) -> bool {
    let name = format!("{broker}/{}", scenario.name);
    let stage = Stage::new(&name, address);
    let performed = tokio::spawn(tokio::time::timeout(DEADLINE, (scenario.run)(stage.clone()))).await;
    let done = match performed {
        Ok(Ok(())) => true,
        Ok(Err(_)) => {
            eprintln!("{name} does not end");
            false
        }
        // The panic has said why.
        Err(_) => {
            eprintln!("{name} could not be performed");
            false
        }
    };
    let done = stage.close(scenario.spans()).await && done;
    eprintln!("{name}{}", if done { "" } else { " FAILED" });
    done
}
