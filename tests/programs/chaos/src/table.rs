//! All rows of a run, raw beside ours.

use std::fmt::Write;

use crate::{broker::Kind, chaos::Row, side::Side};

pub(crate) fn table(mut rows: Vec<Row>) -> String {
    rows.sort_by_key(|row| (Kind::ALL.iter().position(|kind| kind.name() == row.broker), row.place, row.side));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<9} {:<15} {:<5} {:>12} {:>13} {:>7} {:>9} {:>7} {:>14} {:>13} {:>8} {:>14} {:>8}",
        "broker",
        "phase",
        "side",
        "acknowledged",
        "at the broker",
        "doubled",
        "reordered",
        "failed",
        "spans started",
        "spans ended",
        "disagree",
        "never returned",
        "memory"
    );
    for row in rows {
        let counts = &row.counts;
        let of_spans = |number: u64| if row.side == Side::Ours { number.to_string() } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "{:<9} {:<15} {:<5} {:>12} {:>13} {:>7} {:>9} {:>7} {:>14} {:>13} {:>8} {:>14} {:>5} MB",
            row.broker,
            row.phase,
            row.side.to_string(),
            counts.acknowledged,
            counts.at_broker,
            counts.doubled,
            counts.reordered,
            counts.failed,
            of_spans(row.spans_started),
            of_spans(row.spans_ended),
            of_spans(counts.disagree),
            counts.never_returned,
            row.usage.memory / 1024
        );
    }
    text
}
