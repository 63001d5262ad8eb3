//! What instrumentation may cost, whatever the machine: bounds on allocations and instructions, which hardly change. Fails
//! where one is broken.

use std::slice;

use bench::{Failed, Mode, Path, Side, printed::Numbers};

/// The most instructions beside the hand-written side, as a ratio.
fn most(path: Path, mode: Mode) -> f64 {
    match (mode, path) {
        // Most of what is left is the SDK's and the client's: a side that only calls these came to 0.7.
        // A look-up of the last instrumentation costs a load more, and a Kafka receive has six.
        (Mode::RecordedW3c, Path::KafkaReceive) => 0.86,
        (Mode::RecordedW3c | Mode::SampledOutW3c, Path::KafkaReceive | Path::RabbitSend) => 0.85,
        (Mode::RecordedW3c, _) => 0.8,
        // The opaque of a traced message is a box, recorded or not.
        (Mode::SampledOutW3c, Path::KafkaSend) => 0.75,
        (Mode::SampledOutW3c, _) => 0.7,
        // A fourth of it is the SDK's propagator, which both sides ask.
        (Mode::Recorded | Mode::SampledOut, Path::KafkaReceive) => 1.1,
        (Mode::Recorded | Mode::SampledOut | Mode::NoSdk, _) => 1.0,
    }
}

/// How often instructions are counted: where addresses are random, these add up to 2 % on either side, and the least of a few
/// counts is what the code executes. A Kafka receive has two states, 2 % apart, by the place of its memory: each process has one.
const RUNS: usize = 7;

fn main() -> Result<(), Failed> {
    let mut broken = Vec::new();
    for mode in Mode::ALL {
        let allocations = Numbers::of(env!("CARGO_BIN_EXE_allocations"), mode)?;
        let runs = (0..RUNS).map(|_| Numbers::of(env!("CARGO_BIN_EXE_instructions"), mode));
        let instructions = runs.collect::<Result<Vec<_>, _>>()?;
        for path in Path::ALL {
            let [raw, by_hand, ours] =
                least(slice::from_ref(&allocations), path).ok_or("no allocations are counted")?;
            // A fraction of one is a queue that grows.
            let allowed = if mode == Mode::NoSdk { raw + 0.1 } else { by_hand - 0.5 };
            if ours > allowed {
                broken.push(format!("{path}, {mode}: {ours} allocations (raw {raw}, by hand {by_hand})"));
            }
            let Some([_, by_hand, ours]) = least(&instructions, path) else {
                if path != Path::KafkaSendFuture {
                    return Err("no instructions are counted".into());
                }
                continue;
            };
            let (ratio, most) = (ours / by_hand, most(path, mode));
            println!("{path}, {mode}: {ratio:.2} of the instructions by hand, at most {most}");
            if ratio > most {
                broken.push(format!("{path}, {mode}: {ratio:.3} of the instructions by hand, more than {most}"));
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

/// The least number of each side. `None` where one was not counted.
fn least(runs: &[Numbers], path: Path) -> Option<[f64; 3]> {
    let [raw, by_hand, ours] = Side::ALL.map(|side| {
        let numbers = runs.iter().map(|numbers| numbers.get(path, side)).collect::<Option<Vec<_>>>()?;
        numbers.into_iter().reduce(f64::min)
    });
    Some([raw?, by_hand?, ours?])
}
