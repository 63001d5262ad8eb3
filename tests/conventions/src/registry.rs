//! Our registry, as far as the checks read it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Attribute, Convention, Level, Metric, Source, Type};

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    metric_name: Option<String>,
    instrument: Option<String>,
    unit: Option<String>,
    #[serde(default)]
    stability: String,
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    attributes: Vec<Entry>,
}

/// What the convention's schema has no field for.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default)]
    boundaries: Vec<f64>,
}

/// An attribute that is defined, or one that is referenced.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Defined(Defined),
    Referenced { r#ref: String, requirement_level: Requirement },
}

#[derive(Deserialize)]
struct Defined {
    id: String,
    #[serde(rename = "type")]
    value: Value,
    stability: String,
    brief: String,
    #[serde(default)]
    examples: Vec<Example>,
}

/// A value, or a list of those, as the official files have them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Example {
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Plain(String),
    Members { members: Vec<Member> },
}

#[derive(Deserialize)]
struct Member {
    value: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Requirement {
    Plain(String),
    /// The level, and when it applies.
    When(BTreeMap<String, String>),
}

/// Adds what the registry defines.
///
/// Its groups of attributes named `otel_messaging.{span}` are what such spans have on every system,
/// `otel_messaging.kafka.{span}` and `otel_messaging.rabbitmq.{span}` what they have on that one.
pub(crate) fn add_to(convention: &mut Convention) {
    let files = [
        include_str!("../../../registry/attributes.yaml"),
        include_str!("../../../registry/spans.yaml"),
        include_str!("../../../registry/metrics.yaml"),
    ];
    for file in files {
        let File { groups } = serde_saphyr::from_str(file).expect("the registry is as its reader expects it");
        groups.into_iter().for_each(|group| add(convention, group));
    }
}

fn add(convention: &mut Convention, group: Group) {
    let mut levels = BTreeMap::new();
    for entry in group.attributes {
        match entry {
            Entry::Defined(defined) => {
                let id = defined.id.clone();
                let known = convention.attributes.insert(id.clone(), defined.attribute());
                assert!(known.is_none(), "{id} is defined twice");
            }
            Entry::Referenced { r#ref, requirement_level } => {
                let level = match &requirement_level {
                    Requirement::Plain(level) => level,
                    Requirement::When(when) => when.keys().next().expect("a level"),
                };
                levels.insert(r#ref, Level::parse(level));
            }
        }
    }
    let span = |system: &str, name: &str| (system.to_owned(), name.to_owned());
    match (group.kind.as_str(), group.id.strip_prefix("otel_messaging."), group.metric_name) {
        ("span", ..) => {
            let name = group.id.strip_prefix("span.messaging.nats.").expect("spans of ours are those of NATS");
            let known = convention.spans.insert(span("nats", name), levels);
            assert!(known.is_none(), "{name} is defined twice");
        }
        ("metric", _, Some(name)) => {
            let metric = Metric {
                histogram: group.instrument.as_deref() == Some("histogram"),
                unit: group.unit.expect("a metric has a unit"),
                boundaries: group.annotations.boundaries,
                attributes: levels,
                stability: group.stability,
                source: Source::Ours,
            };
            assert_eq!(metric.histogram, !metric.boundaries.is_empty(), "{name}: a histogram has boundaries");
            let known = convention.metrics.insert(name.clone(), metric);
            assert!(known.is_none(), "{name} is defined twice");
        }
        ("attribute_group", Some(name), _) => {
            let one_system = ["kafka", "rabbitmq"]
                .into_iter()
                .find_map(|system| Some(span(&format!("{system}+"), name.strip_prefix(system)?.strip_prefix('.')?)));
            let known = convention.spans.insert(one_system.unwrap_or_else(|| span("*", name)), levels);
            assert!(known.is_none(), "{name} is defined twice");
        }
        ("attribute_group", None, _) => (),
        (other, ..) => panic!("{} is of a type that no check knows: {other}", group.id),
    }
}

impl Defined {
    fn attribute(self) -> Attribute {
        let Self { id, value, stability, brief, examples } = self;
        let value = match value {
            Value::Plain(name) => Type::parse(&name),
            Value::Members { members } => Type::OneOf(members.into_iter().map(|it| it.value).collect()),
        };
        let brief = brief.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!brief.is_empty(), "{id} does not say what it means");
        let examples: Vec<_> = examples.into_iter().map(|example| example.of(&id, &value)).collect();
        // Of these all values are known.
        let closed = matches!(value, Type::Boolean | Type::OneOf(_));
        assert!(closed || !examples.is_empty(), "{id} has no examples");
        Attribute { value, stability, source: Source::Ours, brief, examples }
    }
}

impl Example {
    fn of(self, id: &str, of: &Type) -> String {
        match (self, of) {
            (Self::Whole(number), Type::Int) => number.to_string(),
            (Self::Number(number), Type::Double) => number.to_string(),
            (Self::Text(text), Type::String) => text,
            (Self::List(texts), Type::Lists) => texts.join(", "),
            _ => panic!("{id} has an example of another type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    /// Why a registry with this group is refused.
    fn refused(group: &str) -> String {
        let mut convention = crate::table::read();
        add_to(&mut convention);
        let group = serde_saphyr::from_str(group).expect("it can be read");
        let refused = panic::catch_unwind(move || add(&mut convention, group)).expect_err("it is refused");
        refused.downcast_ref::<String>().expect("it says why").clone()
    }

    #[test]
    fn nothing_is_defined_twice() {
        let attribute = |id: &str| {
            format!(
                "{{id: a, type: attribute_group, attributes: \
                 [{{id: {id}, type: int, stability: development, brief: A number., examples: [1]}}]}}"
            )
        };
        let twice = "is defined twice";
        assert_eq!(refused(&attribute("messaging.kafka.offset")), format!("messaging.kafka.offset {twice}"));
        assert_eq!(
            refused(&attribute("otel_messaging.delivery.attempt")),
            format!("otel_messaging.delivery.attempt {twice}")
        );
        let metric =
            "{id: m, type: metric, metric_name: messaging.client.sent.messages, instrument: counter, unit: '1'}";
        assert_eq!(refused(metric), format!("messaging.client.sent.messages {twice}"));
        let span = "{id: otel_messaging.kafka.send.client, type: attribute_group}";
        assert_eq!(refused(span), format!("kafka.send.client {twice}"));
    }

    #[test]
    fn attributes_have_a_meaning_and_examples_of_their_type() {
        let attribute = |rest: &str| {
            format!("{{id: a, type: attribute_group, attributes: [{{id: x, stability: development, {rest}}}]}}")
        };
        assert_eq!(refused(&attribute("type: int, brief: '', examples: [1]")), "x does not say what it means");
        assert_eq!(refused(&attribute("type: int, brief: A number.")), "x has no examples");
        let wrong = "x has an example of another type";
        assert_eq!(refused(&attribute("type: int, brief: A number., examples: [one]")), wrong);
        assert_eq!(refused(&attribute("type: 'template[string[]]', brief: Lists., examples: [blue]")), wrong);
        let metric = "{id: m, type: metric, metric_name: m, instrument: histogram, unit: s}";
        assert!(refused(metric).contains("a histogram has boundaries"));
    }
}
