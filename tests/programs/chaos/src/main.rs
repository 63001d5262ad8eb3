//! Brokers broken under load, and minutes of load: what the raw clients make of it, and ours beside them.
//!
//! Each side has a broker of its own, and each side is a process of its own. The three brokers run side by side, the
//! raw client first and then ours.

#![allow(clippy::duplicate_mod, reason = "the same source, under the clients' names and under ours, is the comparison")]

mod at_broker;
mod broker;
mod chaos;
mod clients;
mod exporter;
mod ledger;
mod load;
mod plan;
mod proxy;
mod side;
mod soak;
mod spans;
mod table;
mod usage;

use std::{
    env,
    future::Future,
    hash::BuildHasher,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::future::join_all;

use crate::{
    broker::Kind,
    side::{Report, Side, in_own_process},
};

const USAGE: &str = "\
usage: chaos [--short] [--seed N]    kills, holds and cuts off brokers under load, on the raw clients and on ours; exits 1
                                     when an acknowledged message is not at its broker, a payload has changed, spans
                                     started and ended differ, a span disagrees with what its send returned, or a call
                                     does not return. --short: one kill and three held seconds for each
       chaos soak [--minutes N]      N minutes (5) of steady work on each side; exits 1 when ours grows from minute 1 on by
                                     2 MB more than the raw client, or a span is open at the end";

#[tokio::main]
async fn main() -> ExitCode {
    exporter::hush();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match perform(&arguments).await {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(wrong)) => {
            wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

type Done = Result<(), Vec<String>>;

/// `None`, where the arguments are none of ours.
async fn perform(arguments: &[String]) -> Option<Done> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    Some(match words[..] {
        [] => chaos(any_seed(), false).await,
        ["--short"] => chaos(any_seed(), true).await,
        ["--seed", seed] => chaos(seed.parse().ok()?, false).await,
        ["--short", "--seed", seed] => chaos(seed.parse().ok()?, true).await,
        ["soak"] => soak(5).await,
        ["soak", "--minutes", minutes] => soak(minutes.parse().ok()?).await,
        // What this program starts itself as.
        ["chaos-side", kind, side, seed, short] => {
            let (kind, side) = named(kind, side)?;
            reported(chaos::run(kind, side, seed.parse().ok()?, short.parse().ok()?).await)
        }
        ["soak-side", kind, side, seed, minutes] => {
            let (kind, side) = named(kind, side)?;
            reported(soak::run(kind, side, seed.parse().ok()?, minutes.parse().ok()?).await)
        }
        _ => return None,
    })
}

fn named(kind: &str, side: &str) -> Option<(Kind, Side)> {
    let kind = Kind::ALL.into_iter().find(|one| one.name() == kind)?;
    Some((kind, [Side::Raw, Side::Ours].into_iter().find(|one| one.to_string() == side)?))
}

fn reported(report: Result<Report, String>) -> Done {
    report.and_then(|report| report.print()).map_err(|error| vec![error])
}

fn any_seed() -> u64 {
    // Few digits: it is typed again.
    std::hash::RandomState::new().hash_one(0) % 100_000
}

async fn chaos(seed: u64, short: bool) -> Done {
    println!("SEED={seed}");
    let start = Instant::now();
    let arguments = [seed.to_string(), short.to_string()];
    let at_most = Duration::from_secs(if short { 240 } else { 420 });
    let sides = both_sides(|kind, side| in_own_process("chaos-side", kind, side, &arguments, at_most)).await;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for report in sides.into_iter().flatten() {
        match report {
            Ok(Report::Chaos(some)) => rows.extend(some),
            Ok(Report::Soak(_)) => {}
            Err(error) => wrong.push(error),
        }
    }
    wrong.extend(rows.iter().flat_map(|row| row.wrong.clone()));
    println!("\n{}in {} s", table::table(rows), start.elapsed().as_secs());
    if wrong.is_empty() {
        return Ok(());
    }
    let short = if short { " ARGS=--short" } else { "" };
    wrong.push(format!("the same run again: make chaos{short} SEED={seed}"));
    Err(wrong)
}

async fn soak(minutes: u32) -> Done {
    if minutes < 2 {
        return Err(vec![
            "what grows is seen from the first minute to the last: MINUTES has to be 2 or more".to_owned(),
        ]);
    }
    let arguments = [any_seed().to_string(), minutes.to_string()];
    let at_most = Duration::from_secs(60 * (u64::from(minutes) + 5));
    let mut wrong = Vec::new();
    let start = Instant::now();
    for [raw, ours] in both_sides(|kind, side| in_own_process("soak-side", kind, side, &arguments, at_most)).await {
        match (raw, ours) {
            (Ok(Report::Soak(raw)), Ok(Report::Soak(ours))) => {
                println!("{}", soak::line(&raw, &ours));
                wrong.extend(soak::judged(&raw, &ours));
            }
            (raw, ours) => wrong.extend([raw, ours].into_iter().filter_map(Result::err)),
        }
    }
    println!("in {} s", start.elapsed().as_secs());
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// For each broker the raw client, then ours.
async fn both_sides<T, F: Future<Output = T>>(run: impl Fn(Kind, Side) -> F) -> Vec<[T; 2]> {
    let run = &run;
    join_all(Kind::ALL.map(|kind| async move { [run(kind, Side::Raw).await, run(kind, Side::Ours).await] })).await
}
