//! The three brokers: what there is to do on each, and what it must look like.

use std::{env, fmt::Write, time::Duration};

use futures::{StreamExt, stream};
use tokio::runtime::Handle;

use crate::{
    kafka, line, nats, rabbitmq,
    rule::Rule,
    scenario::{Lacking, LeftOut, Measure, Operation, Performed, Scenario, words},
    stage::{self, Stage},
};

/// One broker, its adapter's operations and their scenarios.
#[derive(Clone, Copy)]
pub(crate) struct Broker {
    /// Also `messaging.system`.
    pub(crate) name: &'static str,
    /// The scope of its spans.
    pub(crate) scope: &'static str,
    pub(crate) operations: &'static [Operation],
    pub(crate) measures: &'static [Measure],
    /// What a registry has and the client does not know, or is not asked.
    pub(crate) left_out: &'static [LeftOut],
    /// Attributes that spans have under conditions that no scenario has; `why` is the condition.
    pub(crate) elsewhere: &'static [LeftOut],
    pub(crate) lacking: &'static [Lacking],
    /// A file of the folder `scenarios`: `name: description` of each scenario, then the lines that it shows, then an empty line.
    pub(crate) listed: &'static str,
    /// The function of each scenario, by topic.
    pub(crate) performed: &'static [&'static [Performed]],
    /// Starts the broker, which stops when the value is dropped.
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
    /// # Panics
    ///
    /// When no function performs a listed scenario.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let scenario = |text: &'static str| {
            let (head, shows) = text.split_once('\n')?;
            let (name, does) = head.split_once(": ")?;
            let (_, run) = self.performed.iter().copied().flatten().find(|(performed, _)| *performed == name)?;
            Some(Scenario { name, does, shows, run: *run })
        };
        let named = |text| scenario(text).unwrap_or_else(|| panic!("no scenario of {}: {text}", self.name));
        self.listed.split("\n\n").map(named).collect()
    }

    pub(crate) fn list(&self) -> String {
        let mut text = format!("\n{}: scope {}\n", self.name, self.scope);
        for operation in self.operations {
            let _ = writeln!(text, "\n{} {} ({}): {}", self.name, operation.name, operation.kind, operation.span);
            listed(&mut text, "always", operation.always);
            listed(&mut text, "unless it failed", operation.answered);
            listed(&mut text, "sometimes", operation.sometimes);
            for &group in operation.together {
                listed(&mut text, "together or not at all", group);
            }
            listed(&mut text, "where asked for", operation.asked);
            listed(&mut text, "after the start", operation.late);
        }
        for measure in self.measures {
            let _ = writeln!(text, "\n{} {}", self.name, measure.metric);
            listed(&mut text, "of operations", measure.operations);
            listed(&mut text, "always", measure.always);
            listed(&mut text, "sometimes", measure.sometimes);
            listed(&mut text, "where asked for", measure.asked);
        }
        for Lacking { attribute, operations, scenario, why } in self.lacking {
            let _ = writeln!(text, "\n{}/{scenario}: {operations} without {attribute}: {why}", self.name);
        }
        text.push('\n');
        for scenario in self.scenarios() {
            let _ = writeln!(text, "{}/{}: {}", self.name, scenario.name, scenario.does);
            for line in scenario.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }

    /// Performs these scenarios, or all; whether all could be.
    pub(crate) async fn perform(&self, names: &[&str]) -> bool {
        if let Some(why) = stage::cannot_export(|name| env::var(name).ok()) {
            eprintln!("{why}");
            return false;
        }
        let start = self.start;
        let started = tokio::task::spawn_blocking(start).await.expect("the start does not panic");
        let started = match started {
            Ok(started) => started,
            Err(missing) => {
                eprintln!("{missing}");
                return false;
            }
        };
        let mut scenarios = self.scenarios();
        scenarios.retain(|scenario| names.is_empty() || names.contains(&scenario.name));
        if scenarios.is_empty() {
            eprintln!("{} has no such scenario", self.name);
            return false;
        }
        let performed = scenarios.into_iter().map(|scenario| perform(self.name, scenario, started.address.clone()));
        stream::iter(performed).buffer_unordered(AT_ONCE).fold(true, async |all, done| all && done).await
    }
}

/// How to read what is listed, and what holds of all of it.
pub(crate) fn legend() -> String {
    let mut text = format!("{}\n{DERIVED}\nThe rules:\n\n", line::LEGEND);
    for rule in Rule::ALL {
        let _ = writeln!(text, "  {rule}");
    }
    text
}

const DERIVED: &str = "\
What comes after the start is listed with each operation; error.type does too, and nothing else. What an operation always
has may stand on each link of a batch instead.

What is to be derived, where a scenario lists spans only:

  events    one for each span that failed, in its context: messaging.{operation.type}.exception, with the span's error.type
            as exception.type. None in `without_logger`; in `sampled_out` and `without_spans` one for each failure that a
            duration counts.
  send      messaging.client.operation.duration and messaging.client.sent.messages, one each, with its error.type
  receive   messaging.client.operation.duration, one, also where a poll that brought a message has no span
  settle    messaging.client.operation.duration, one; otel_messaging.deliveries by its settlement.outcome, as many as
            batch.message_count says, else one
  process   messaging.process.duration, one; messaging.client.consumed.messages, as many as batch.message_count says, else
            one, by the operation that brought them; otel_messaging.deliveries, one where the outcome is `dropped`
            otel_messaging.wait_time for each message whose span started with its handler. The spans do not say how many
            these are: as many at least as spans and links have an attribute of that name, and as messages at most
  any       otel_messaging.queue_time for each message that carries a time, by the operation that brought it
  create    nothing: it asks nothing of a broker

A scenario that lists series shows these and no others. `without_metrics` has none.
";

fn listed(text: &mut String, when: &str, keys: &'static str) {
    if !keys.is_empty() {
        let _ = writeln!(text, "    {when}: {}", words(keys).collect::<Vec<_>>().join(" "));
    }
}

/// Performs one scenario; whether it could be.
async fn perform(broker: &str, scenario: Scenario, address: String) -> bool {
    let name = format!("{broker}/{}", scenario.name);
    let stage = Stage::new(broker, scenario.name, address);
    let (run, own) = (scenario.run, stage.clone());
    // A thread of its own: the future of a scenario is not `Send`.
    let performed = tokio::task::spawn_blocking(move || {
        Handle::current().block_on(async { tokio::time::timeout(DEADLINE, run(own)).await })
    });
    let done = match performed.await {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_function_performs_one_listed_scenario() {
        for broker in BROKERS {
            let mut performed: Vec<_> = broker.performed.iter().copied().flatten().map(|(name, _)| *name).collect();
            let mut listed: Vec<_> = broker.scenarios().iter().map(|scenario| scenario.name).collect();
            performed.sort_unstable();
            listed.sort_unstable();
            assert_eq!(performed, listed, "{}", broker.name);
            assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "{}", broker.name);
        }
    }
}
