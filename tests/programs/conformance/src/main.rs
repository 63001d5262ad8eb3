//! Every operation on its real broker: performed, exported, and held against the convention.

mod broker;
mod check;
mod client;
mod complete;
#[cfg(test)]
mod each_rule;
mod export;
mod kafka;
mod line;
mod nats;
#[cfg(test)]
mod official;
mod page;
mod rabbitmq;
mod rule;
mod rules;
mod scenario;
mod scenarios;
mod seen;
mod stage;
mod weaver;

use std::{env, panic, process::ExitCode};

use crate::broker::BROKERS;

const USAGE: &str = "\
usage: conformance kafka|rabbitmq|nats [SCENARIO...]
                             performs every operation on that broker, or these scenarios, and exports spans, metrics and
                             logs over OTLP (no TLS; OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf, the default, or grpc) to
                             OTEL_EXPORTER_OTLP_ENDPOINT; the resource attribute `test.suite.name` is the broker,
                             `test.case.name` the scenario; exits 1 when one could not be performed
       conformance --list    how to read it; the operations and metrics with their attributes; the scenarios, and what each
                             must show
       conformance check     performs all of them into a receiver of its own and holds what came against the convention,
                             the registry, the lists of the scenarios and docs/telemetry.md; exits 1 when a rule is broken
       conformance live-check
                             performs all of them into the convention's own validator, weaver, which also checks the registry;
                             exits 1 at a violation, and at an improvement that improvements.txt does not list. WEAVER names the
                             program, SEMCONV_MODEL a folder with the official registry where it cannot be fetched
       conformance export    performs all of them and rewrites tests/programs/conformance/export, what they export as text
       conformance page      rewrites docs/telemetry.md

The brokers are started when they are needed; BROKERS_KAFKA, BROKERS_AMQP and BROKERS_NATS name others.
nats/domain starts a server of its own in any case.";

#[tokio::main]
async fn main() -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref() != Some(&scenario::ON_PURPOSE) {
            eprintln!("{panic}");
        }
    }));
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--list"] => {
            print!("{}", broker::legend());
            BROKERS.iter().for_each(|broker| print!("{}", broker.list()));
            true
        }
        ["check"] => check::all().await,
        ["live-check"] => weaver::live_check().await,
        ["export"] => export::write().await,
        ["page"] => page::write(),
        [name, ref scenarios @ ..] => match BROKERS.iter().find(|broker| broker.name == name) {
            Some(broker) => broker.perform(scenarios).await,
            None => return usage(),
        },
        _ => return usage(),
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
