//! One side of one broker, phase by phase.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    at_broker,
    broker::{Broker, Kind},
    clients,
    ledger::{self, Call, Returned},
    load::{self, Received},
    plan::{self, Phase, Step},
    side::{Report, Side},
    spans::Spans,
    usage::Usage,
};

/// How long spans may take to end after all else has. A parked span ends when the client's threads are gone.
const SPANS_END: Duration = Duration::from_secs(20);
/// And how long until the service sends and receives again after a trouble. Kafka gives up a consumer after six seconds.
const RECOVERS: Duration = Duration::from_secs(60);
/// How long answers of a broker that is held may be on their way.
const ON_THEIR_WAY: Duration = Duration::from_millis(500);

/// What one phase of one side has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) broker: String,
    /// Its place among the phases of a broker, and its name.
    pub(crate) place: usize,
    pub(crate) phase: String,
    pub(crate) side: Side,
    pub(crate) counts: ledger::Counts,
    pub(crate) received: u64,
    /// The state of a service whose sends are not acknowledged, or whose messages are not received, after the trouble.
    pub(crate) stuck: Option<String>,
    pub(crate) spans_started: u64,
    pub(crate) spans_ended: u64,
    pub(crate) usage: Usage,
    /// What fails the run, as sentences.
    pub(crate) wrong: Vec<String>,
}

/// Runs all phases of a side on a broker of its own.
pub(crate) async fn run(kind: Kind, side: Side, seed: u64, short: bool) -> Result<Report, String> {
    let mut broker = Broker::start(kind).await?;
    let mut rows = Vec::new();
    for (number, phase) in plan::phases(seed, kind.name(), side == Side::Ours, short).into_iter().enumerate() {
        let start = Instant::now();
        let row = run_phase(&mut broker, kind, side, seed, (number, &phase)).await;
        let row = row.map_err(|error| format!("{} {side}, {}: {error}", kind.name(), phase.name))?;
        println!(
            "{} {side}, {}: {} sends acknowledged, {} failed, {} messages received, in {:.0} s",
            row.broker,
            row.phase,
            row.counts.acknowledged,
            row.counts.failed,
            row.received,
            start.elapsed().as_secs_f64()
        );
        rows.push(row);
    }
    Ok(Report::Chaos(rows))
}

async fn run_phase(
    broker: &mut Broker,
    kind: Kind,
    side: Side,
    seed: u64,
    (number, phase): (usize, &Phase),
) -> Result<Row, String> {
    let place = broker.place(phase.name.replace(' ', "-"));
    at_broker::declare(&place).await?;
    broker.persist()?;
    let sdk = side.sdk(Spans::with_outcomes(), phase.exporter);
    let client = clients::connect(&place, side.instrumentation(&sdk)).await?;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let on_call = {
        let calls = calls.clone();
        move |call| calls.lock().unwrap_or_else(PoisonError::into_inner).push(call)
    };
    let received = Received::default();
    let acknowledged = || {
        let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call: &&Call| call.returned == Returned::Acknowledged).count()
    };
    let troubled = async {
        trouble(broker, &phase.steps, &acknowledged).await?;
        let stuck = match stuck(&received, &acknowledged).await {
            Some(stuck) => Some(stuck + &at_broker::queue_state(&place).await),
            None => None,
        };
        Ok::<_, String>(stuck)
    };
    let (troubled, sent) = load::run(client, sdk.clone(), seed, &received, on_call, troubled).await?;
    let stuck = troubled?;
    sdk.drained(SPANS_END).await;
    let calls = std::mem::take(&mut *calls.lock().unwrap_or_else(PoisonError::into_inner));
    let at_broker: Vec<_> = at_broker::read(&place).await?.iter().map(|payload| plan::number(seed, payload)).collect();

    let mut counts = ledger::compare(&calls, &at_broker);
    // Those whose task ended without a report.
    counts.never_returned += sent - calls.len() as u64;
    let disagreements: Vec<_> = match side {
        Side::Raw => Vec::new(),
        Side::Ours => {
            calls.iter().filter_map(|call| ledger::disagreement(call, &sdk.spans.outcomes(call.around))).collect()
        }
    };
    counts.disagree = disagreements.len() as u64;
    let mut row = Row {
        broker: kind.name().to_owned(),
        place: number,
        phase: phase.name.to_owned(),
        side,
        counts,
        received: received.count(),
        stuck,
        spans_started: sdk.spans.started(),
        spans_ended: sdk.spans.ended(),
        usage: Usage::now()?,
        wrong: Vec::new(),
    };
    let idle = phase.exporter.idle(sdk.handed(), sdk.panics(), row.spans_ended).filter(|_| side == Side::Ours);
    row.wrong = row.judged(idle);
    row.wrong.extend(disagreements.into_iter().take(3));
    sdk.shut_down().await;
    Ok(row)
}

/// An error where a trouble was none.
async fn trouble(broker: &mut Broker, steps: &[Step], acknowledged: &impl Fn() -> usize) -> Result<(), String> {
    for step in steps {
        match *step {
            Step::Run(time) => sleep(time).await,
            Step::Kill(away) => broker.kill(away)?,
            Step::Hold(time) => {
                broker.hold();
                // Answers that were on their way arrive.
                sleep(ON_THEIR_WAY).await;
                let before = acknowledged();
                sleep(time.saturating_sub(ON_THEIR_WAY)).await;
                let meanwhile = acknowledged() - before;
                broker.resume();
                if meanwhile > 0 {
                    return Err(format!("the broker was held, and acknowledged {meanwhile} messages"));
                }
            }
            Step::Cut => {
                if broker.proxy.cut() == 0 {
                    return Err("there was no connection to cut".to_owned());
                }
            }
            Step::Delay(delay) => broker.proxy.delay(delay),
        }
    }
    Ok(())
}

/// Waits until a send is acknowledged and a message received after the trouble. Otherwise returns the state of the service.
async fn stuck(received: &Received, acknowledged: &impl Fn() -> usize) -> Option<String> {
    let (start, before) = (Instant::now(), (received.count(), acknowledged()));
    let recovers = || received.count() > before.0 && acknowledged() > before.1;
    while !recovers() && start.elapsed() < RECOVERS {
        sleep(Duration::from_millis(20)).await;
    }
    (!recovers()).then(|| {
        let (received_now, acknowledged) = (received.count() - before.0, acknowledged() - before.1);
        format!(
            "in {RECOVERS:?} after the trouble, {acknowledged} sends were acknowledged and {received_now} messages received ({})",
            received.state()
        )
    })
}

impl Row {
    fn judged(&self, idle: Option<&str>) -> Vec<String> {
        let Self { counts, stuck, spans_started, spans_ended, .. } = self;
        let ledger::Counts { acknowledged, at_broker, never_returned, damaged, disagree, .. } = counts;
        let bound = load::BOUND;
        let wrong = [
            (*acknowledged == 0, "no send was acknowledged".to_owned()),
            (stuck.is_some(), stuck.clone().unwrap_or_default()),
            (
                at_broker < acknowledged,
                format!("{} acknowledged messages are not at the broker", acknowledged - at_broker),
            ),
            (*damaged > 0, format!("{damaged} messages are not what was sent")),
            (*never_returned > 0, format!("{never_returned} calls did not return in {bound:?}")),
            (spans_started != spans_ended, format!("{spans_started} spans started, and {spans_ended} ended")),
            (*disagree > 0, format!("{disagree} sends have spans that disagree with what they returned")),
            (idle.is_some(), idle.unwrap_or_default().to_owned()),
        ];
        let wrong = wrong.into_iter().filter_map(|(is_wrong, what)| is_wrong.then_some(what));
        wrong.map(|what| format!("{} {}, {}: {what}", self.broker, self.side, self.phase)).collect()
    }
}
