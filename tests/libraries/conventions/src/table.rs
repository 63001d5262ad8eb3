//! The facts: tables of words between tabs.

use std::collections::BTreeMap;

use crate::{Attribute, Convention, Event, Level, Metric, Source, Type};

pub(crate) fn read() -> Convention {
    let attributes = rows(include_str!("../facts/attributes.tsv")).map(|[name, value, stability]| {
        let attribute = Attribute {
            value: Type::parse(value),
            stability: stability.to_owned(),
            source: Source::Convention,
            brief: String::new(),
            examples: Vec::new(),
        };
        (name.to_owned(), attribute)
    });
    let mut spans = BTreeMap::<_, BTreeMap<_, _>>::new();
    for [system, span, attribute, level] in rows(include_str!("../facts/spans.tsv")) {
        let span = spans.entry((system.to_owned(), span.to_owned())).or_default();
        span.insert(attribute.to_owned(), Level::parse(level));
    }
    let metrics = rows(include_str!("../facts/metrics.tsv")).map(|[name, instrument, unit, boundaries, stability]| {
        let attributes = rows(include_str!("../facts/metric_attributes.tsv"))
            .filter(|row: &[&str; 3]| row[0] == name)
            .map(|[_, attribute, level]| (attribute.to_owned(), Level::parse(level)));
        let metric = Metric {
            histogram: instrument == "histogram",
            unit: unit.to_owned(),
            boundaries: boundaries.split(' ').filter_map(|boundary| boundary.parse().ok()).collect(),
            attributes: attributes.collect(),
            stability: stability.to_owned(),
            source: Source::Convention,
        };
        (name.to_owned(), metric)
    });
    let events = rows(include_str!("../facts/events.tsv")).map(|[name, severity, attributes, stability]| {
        let severity = severity.parse().expect("a severity is a number");
        let event = Event { severity, attributes: attributes.split(' ').collect(), stability };
        (name.to_owned(), event)
    });
    Convention {
        attributes: attributes.collect(),
        spans,
        at_start: BTreeMap::new(),
        metrics: metrics.collect(),
        events: events.collect(),
        deprecated: rows(include_str!("../facts/deprecated.txt")).map(|[name]| name).collect(),
    }
}

fn rows<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let row: Vec<_> = line.split('\t').collect();
        row.try_into().unwrap_or_else(|_| panic!("a row of {N} is expected: {line}"))
    })
}
