//! Minutes of steady work: what a process takes from minute to minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::{
    at_broker,
    broker::{Broker, Kind},
    clients,
    exporter::Exporter,
    ledger::{Call, Returned},
    load::{self, Received},
    side::{Report, Side},
    spans::Spans,
    usage::Usage,
};

/// What a process takes, its unit, and by how much more of it than the raw client's ours may grow.
type Allowed = (fn(&Usage) -> u64, &'static str, u64);

/// Tokio's threads for blocking calls come and go.
const ALLOWED: [Allowed; 3] =
    [(|usage| usage.memory, "KiB", 2 * 1024), (|usage| usage.threads, "threads", 2), (|usage| usage.files, "files", 2)];

/// How long spans may take to end after all else has.
const SPANS_END: Duration = Duration::from_secs(20);

/// What one side has come to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Minutes {
    pub(crate) broker: String,
    pub(crate) side: Side,
    /// After each minute.
    pub(crate) usage: Vec<Usage>,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) received: u64,
    /// Spans that started and did not end, after all was drained.
    pub(crate) open: u64,
}

/// Works for so many minutes on a broker of its own.
pub(crate) async fn run(kind: Kind, side: Side, seed: u64, minutes: u32) -> Result<Report, String> {
    let broker = Broker::start(kind).await?;
    let place = broker.place("soak".to_owned());
    at_broker::declare(&place).await?;
    let sdk = side.sdk(Spans::default(), Exporter::Well);
    let client = clients::connect(&place, side.instrumentation(&sdk)).await?;
    let [acknowledged, failed] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let on_call = {
        let (acknowledged, failed) = (acknowledged.clone(), failed.clone());
        move |call: Call| {
            let counted = if call.returned == Returned::Acknowledged { &acknowledged } else { &failed };
            counted.fetch_add(1, Relaxed);
        }
    };
    let every_minute = async {
        let (start, mut taken) = (Instant::now(), Vec::new());
        for minute in 1..=minutes {
            sleep_until(start + Duration::from_secs(60) * minute).await;
            let usage = Usage::now()?;
            let Usage { memory, threads, files } = usage;
            let (name, mb, open) = (kind.name(), memory as f64 / 1024.0, sdk.spans.open());
            println!("{name} {side}, minute {minute}: {mb:.1} MB, {threads} threads, {files} files, {open} open spans");
            taken.push(usage);
        }
        Ok::<_, String>(taken)
    };
    let received = Received::default();
    let (usage, _) = load::run(client, sdk.clone(), seed, &received, on_call, every_minute).await?;
    sdk.drained(SPANS_END).await;
    let minutes = Minutes {
        broker: kind.name().to_owned(),
        side,
        usage: usage?,
        acknowledged: acknowledged.load(Relaxed),
        failed: failed.load(Relaxed),
        received: received.count(),
        open: sdk.spans.open(),
    };
    sdk.shut_down().await;
    Ok(Report::Soak(minutes))
}

impl Minutes {
    /// From the first minute to the last; what shrinks grows by nothing.
    fn growth(&self, of: fn(&Usage) -> u64) -> u64 {
        self.usage.last().zip(self.usage.first()).map_or(0, |(last, first)| of(last).saturating_sub(of(first)))
    }
}

/// What is wrong with ours, beside the raw client.
pub(crate) fn judged(raw: &Minutes, ours: &Minutes) -> Vec<String> {
    let mut wrong = Vec::new();
    for Minutes { broker, side, acknowledged, received, open, .. } in [raw, ours] {
        for (is_wrong, what) in [
            (*acknowledged == 0, "no send was acknowledged".to_owned()),
            (*received == 0, "no message was received".to_owned()),
            (*open > 0, format!("{open} spans are open after all was drained")),
        ] {
            if is_wrong {
                wrong.push(format!("{broker} {side}: {what}"));
            }
        }
    }
    let Minutes { broker, failed, .. } = ours;
    if *failed > raw.failed {
        wrong.push(format!("{broker}: {failed} sends failed on ours, {} on the raw client", raw.failed));
    }
    for (of, unit, more) in ALLOWED {
        let (ours, raw) = (ours.growth(of), raw.growth(of));
        if ours > raw + more {
            wrong.push(format!(
                "{broker}: ours grew by {ours} {unit}, the raw client by {raw}; {more} more are allowed"
            ));
        }
    }
    wrong
}

/// Raw beside ours.
pub(crate) fn line(raw: &Minutes, ours: &Minutes) -> String {
    format!(
        "{:<9} grew from minute 1 on: raw {} KiB, ours {} KiB; open spans at the end: {}; acknowledged: raw {}, ours {}; \
         received: raw {}, ours {}",
        ours.broker,
        raw.growth(|usage| usage.memory),
        ours.growth(|usage| usage.memory),
        ours.open,
        raw.acknowledged,
        ours.acknowledged,
        raw.received,
        ours.received
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(side: Side, memory: &[u64]) -> Minutes {
        let usage = memory.iter().map(|&memory| Usage { memory, threads: 9, files: 9 }).collect();
        Minutes { broker: "nats".to_owned(), side, usage, acknowledged: 9, failed: 0, received: 9, open: 0 }
    }

    #[test]
    fn ours_may_grow_as_the_raw_client_does_and_two_megabytes_more() {
        let raw = minutes(Side::Raw, &[10_000, 10_500, 11_000]);
        assert!(judged(&raw, &minutes(Side::Ours, &[50_000, 53_048])).is_empty());
        let wrong = judged(&raw, &minutes(Side::Ours, &[50_000, 53_049]));
        let expected = "nats: ours grew by 3049 KiB, the raw client by 1000; 2048 more are allowed";
        assert_eq!(wrong, [expected]);
        let shrunk = minutes(Side::Raw, &[10_000, 9_000]);
        assert!(judged(&shrunk, &minutes(Side::Ours, &[50_000, 52_048])).is_empty());
    }

    #[test]
    fn an_open_span_and_a_failed_send_are_wrong() {
        let raw = minutes(Side::Raw, &[1, 1]);
        let ours = Minutes { open: 1, failed: 2, ..minutes(Side::Ours, &[1, 1]) };
        let expected =
            ["nats ours: 1 spans are open after all was drained", "nats: 2 sends failed on ours, 0 on the raw client"];
        assert_eq!(judged(&raw, &ours), expected);
        let mut ours = minutes(Side::Ours, &[1, 1]);
        ours.usage[1] = Usage { memory: 1, threads: 12, files: 11 };
        let expected = "nats: ours grew by 3 threads, the raw client by 0; 2 more are allowed";
        assert_eq!(judged(&raw, &ours), [expected]);
    }
}
