//! What goes wrong, when, and what is sent meanwhile: all of it follows from the seed.

use std::{ops::Range, time::Duration};

use fastrand::Rng;

use crate::exporter::Exporter;

/// A part of a run with clients, an SDK and a destination of its own. At its end all of them are drained and dropped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phase {
    /// Also the name of its destination.
    pub(crate) name: &'static str,
    pub(crate) exporter: Exporter,
    pub(crate) steps: Vec<Step>,
}

/// One thing that is done while messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Nothing, for this long.
    Run(Duration),
    /// The broker is killed and stays away for this long.
    Kill(Duration),
    /// The broker is held for this long.
    Hold(Duration),
    /// All connections are cut.
    Cut,
    /// From now on bytes arrive so much later.
    Delay(Duration),
}

/// The phases of one broker, the same for both sides. The exporter's troubles are ours alone.
pub(crate) fn phases(seed: u64, broker: &str, ours: bool, short: bool) -> Vec<Phase> {
    let mut random = Rng::with_seed(broker.bytes().fold(seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte)));
    if short {
        return vec![phase("killed and held", [killed(&mut random, 1), held(&mut random, 3)].concat())];
    }
    let mut phases = vec![
        phase("killed", killed(&mut random, 5)),
        phase("held", held(&mut random, 10)),
        phase("cut and late", cut_and_late(&mut random)),
    ];
    if ours {
        let troubles = [Exporter::Slow, Exporter::Full, Exporter::Gone, Exporter::Panics];
        phases.extend(troubles.map(|exporter| Phase { exporter, ..phase(exporter.name(), vec![run(&mut random)]) }));
    }
    phases
}

fn killed(random: &mut Rng, times: u32) -> Vec<Step> {
    (0..times).flat_map(|_| [run(random), Step::Kill(ms(random, 0..1_500))]).collect()
}

fn held(random: &mut Rng, seconds: u64) -> Vec<Step> {
    vec![run(random), Step::Hold(Duration::from_secs(seconds))]
}

/// Eight cuts, half of them while bytes are late.
fn cut_and_late(random: &mut Rng) -> Vec<Step> {
    (0..4)
        .flat_map(|_| {
            let late = Step::Delay(ms(random, 5..150));
            [
                run(random),
                Step::Cut,
                run(random),
                late,
                run(random),
                Step::Cut,
                run(random),
                Step::Delay(Duration::ZERO),
            ]
        })
        .collect()
}

/// What follows the last trouble is sent to a broker that is well.
fn phase(name: &'static str, mut steps: Vec<Step>) -> Phase {
    steps.push(Step::Run(Duration::from_secs(2)));
    Phase { name, exporter: Exporter::Well, steps }
}

fn run(random: &mut Rng) -> Step {
    Step::Run(ms(random, 500..2_000))
}

fn ms(random: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// The payload of the message with this number: the number, and a filling of its own length.
pub(crate) fn payload(seed: u64, number: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed ^ number.rotate_left(32));
    let (size, filling) = (random.usize(0..2_000), random.lowercase());
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + size, u8::try_from(filling).unwrap_or(b'x'));
    payload
}

/// The number of a message whose payload is what it was when it was sent.
pub(crate) fn number(seed: u64, payload: &[u8]) -> Option<u64> {
    let digits = payload.split(|byte| *byte == b' ').next()?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (self::payload(seed, number) == payload).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_run_again_and_another_seed_another() {
        let plan = |seed| phases(seed, "kafka", true, false);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert_ne!(plan(7)[0], phases(7, "nats", true, false)[0]);
        assert_eq!(payload(7, 3), payload(7, 3));
        assert_ne!(payload(7, 3), payload(8, 3));
    }

    #[test]
    fn both_sides_have_the_same_troubles() {
        let (ours, raw) = (phases(7, "kafka", true, false), phases(7, "kafka", false, false));
        assert_eq!(ours[..3], raw);
        let names: Vec<_> = ours.iter().map(|phase| phase.name).collect();
        assert_eq!(names[3..], ["exporter slow", "exporter full", "exporter gone", "exporter panics"]);
    }

    #[test]
    fn five_kills_and_ten_seconds_or_one_and_three() {
        for (short, kills, held) in [(false, 5, 10), (true, 1, 3)] {
            let steps: Vec<_> = phases(7, "nats", true, short).into_iter().flat_map(|phase| phase.steps).collect();
            assert_eq!(steps.iter().filter(|step| matches!(step, Step::Kill(_))).count(), kills);
            assert!(steps.contains(&Step::Hold(Duration::from_secs(held))));
        }
    }

    #[test]
    fn a_changed_payload_has_no_number() {
        let payload = payload(7, 42);
        assert_eq!(number(7, &payload), Some(42));
        assert_eq!(number(7, &payload[1..]), None);
        assert_eq!(number(7, &[&payload[..], b"x"].concat()), None);
        assert_eq!(number(7, b""), None);
    }
}
