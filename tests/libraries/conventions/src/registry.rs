//! Our registry, as far as the checks read it. That its form is right is a test of its own (`tests/registry.rs`).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Attribute, Convention, Level, Metric, Source, Type};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    attributes: Vec<Defined>,
    #[serde(default)]
    attribute_groups: Vec<Group>,
    #[serde(default)]
    span_refinements: Vec<Refinement>,
    #[serde(default)]
    metrics: Vec<Measured>,
}

#[derive(Deserialize)]
struct Defined {
    key: String,
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

/// Attributes that several signals reference together.
#[derive(Deserialize)]
struct Group {
    id: String,
    attributes: Vec<Reference>,
}

/// What a span of the convention has beside, on some messaging systems.
#[derive(Deserialize)]
struct Refinement {
    id: String,
    r#ref: String,
    attributes: Vec<Reference>,
}

#[derive(Deserialize)]
struct Measured {
    name: String,
    instrument: String,
    unit: String,
    stability: String,
    #[serde(default)]
    annotations: Annotations,
    attributes: Vec<Reference>,
}

/// What the convention's schema has no field for.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default)]
    boundaries: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Attribute {
        r#ref: String,
        requirement_level: Requirement,
        #[serde(default)]
        sampling_relevant: bool,
    },
    Group {
        ref_group: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Requirement {
    Plain(String),
    /// The level, and when it applies.
    When(BTreeMap<String, String>),
}

type Groups = BTreeMap<String, BTreeMap<String, Level>>;

/// Adds what the registry defines.
pub(crate) fn add_to(convention: &mut Convention) {
    let files = [
        include_str!("../../../../registry/attributes.yaml"),
        include_str!("../../../../registry/spans.yaml"),
        include_str!("../../../../registry/metrics.yaml"),
    ];
    for file in files {
        add(convention, serde_saphyr::from_str(file).expect("the registry is as its reader expects it"));
    }
}

/// A file references groups of its own only.
fn add(convention: &mut Convention, file: File) {
    for attribute in file.attributes {
        let key = attribute.key.clone();
        let known = convention.attributes.insert(key.clone(), attribute.attribute());
        assert!(known.is_none(), "{key} is defined twice");
    }
    let mut groups = Groups::new();
    for Group { id, attributes } in file.attribute_groups {
        let known = groups.insert(id.clone(), levels(&groups, &attributes));
        assert!(known.is_none(), "{id} is defined twice");
    }
    for refinement in file.span_refinements {
        refinement.add_to(convention, &groups);
    }
    for metric in file.metrics {
        metric.add_to(convention, &groups);
    }
}

fn levels(groups: &Groups, attributes: &[Reference]) -> BTreeMap<String, Level> {
    let mut levels = BTreeMap::new();
    for reference in attributes {
        match reference {
            Reference::Group { ref_group } => {
                levels.extend(groups.get(ref_group).unwrap_or_else(|| panic!("there is no group {ref_group}")).clone());
            }
            Reference::Attribute { r#ref, requirement_level, .. } => {
                let level = match requirement_level {
                    Requirement::Plain(level) => level,
                    Requirement::When(when) => when.keys().next().expect("a level"),
                };
                levels.insert(r#ref.clone(), Level::parse(level));
            }
        }
    }
    levels
}

impl Refinement {
    /// `span.otel_messaging.{span}` is what the span has on every system, `span.otel_messaging.{system}.{span}` what it has on
    /// that one beside the convention's own, and `span.messaging.nats.{span}` all that the convention does not have of NATS.
    fn add_to(self, convention: &mut Convention, groups: &Groups) {
        let Self { id, r#ref, attributes } = self;
        let span = r#ref.strip_prefix("messaging.").unwrap_or_else(|| panic!("{id} refines no span of messaging"));
        let of = id.strip_prefix("span.").and_then(|id| id.strip_suffix(span)).map(|id| id.trim_end_matches('.'));
        let (system, mut all) = match of {
            Some("otel_messaging") => ("*".to_owned(), BTreeMap::new()),
            Some("otel_messaging.kafka") => ("kafka+".to_owned(), BTreeMap::new()),
            Some("otel_messaging.rabbitmq") => ("rabbitmq+".to_owned(), BTreeMap::new()),
            Some("messaging.nats") => {
                let general = convention.spans.get(&("-".to_owned(), span.to_owned()));
                (
                    "nats".to_owned(),
                    general.unwrap_or_else(|| panic!("{id} refines {span}, which there is not")).clone(),
                )
            }
            _ => panic!("{id} does not say which spans it is about"),
        };
        all.extend(levels(groups, &attributes));
        // A group cannot say it: what it references is as the convention's own span has it.
        let at_start = attributes.into_iter().filter_map(|reference| match reference {
            Reference::Attribute { r#ref, sampling_relevant, .. } => Some((r#ref, sampling_relevant)),
            Reference::Group { .. } => None,
        });
        let key = (system, span.to_owned());
        convention.at_start.insert(key.clone(), at_start.collect());
        let known = convention.spans.insert(key, all);
        assert!(known.is_none(), "{id} is defined twice");
    }
}

impl Measured {
    fn add_to(self, convention: &mut Convention, groups: &Groups) {
        let Self { name, instrument, unit, stability, annotations: Annotations { boundaries }, attributes } = self;
        let histogram = instrument == "histogram";
        assert_eq!(histogram, !boundaries.is_empty(), "{name}: a histogram has boundaries");
        let attributes = levels(groups, &attributes);
        let metric = Metric { histogram, unit, boundaries, attributes, stability, source: Source::Ours };
        let known = convention.metrics.insert(name.clone(), metric);
        assert!(known.is_none(), "{name} is defined twice");
    }
}

impl Defined {
    fn attribute(self) -> Attribute {
        let Self { key, value, stability, brief, examples } = self;
        let value = match value {
            Value::Plain(name) => Type::parse(&name),
            Value::Members { members } => Type::OneOf(members.into_iter().map(|it| it.value).collect()),
        };
        let brief = brief.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!brief.is_empty(), "{key} does not say what it means");
        let examples: Vec<_> = examples.into_iter().map(|example| example.of(&key, &value)).collect();
        // Of these all values are known.
        let closed = matches!(value, Type::Boolean | Type::OneOf(_));
        assert!(closed || !examples.is_empty(), "{key} has no examples");
        Attribute { value, stability, source: Source::Ours, brief, examples }
    }
}

impl Example {
    fn of(self, key: &str, of: &Type) -> String {
        match (self, of) {
            (Self::Whole(number), Type::Int) => number.to_string(),
            (Self::Number(number), Type::Double) => number.to_string(),
            (Self::Text(text), Type::String) => text,
            (Self::List(texts), Type::Lists) => texts.join(", "),
            _ => panic!("{key} has an example of another type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    /// Why a registry with this is refused.
    fn refused(file: &str) -> String {
        let mut convention = crate::table::read();
        add_to(&mut convention);
        let file = serde_saphyr::from_str(file).expect("it can be read");
        let refused = panic::catch_unwind(move || add(&mut convention, file)).expect_err("it is refused");
        refused.downcast_ref::<String>().expect("it says why").clone()
    }

    #[test]
    fn nothing_is_defined_twice() {
        let attribute = |key: &str| {
            format!("attributes: [{{key: {key}, type: int, stability: development, brief: A number., examples: [1]}}]")
        };
        let twice = "is defined twice";
        assert_eq!(refused(&attribute("messaging.kafka.offset")), format!("messaging.kafka.offset {twice}"));
        assert_eq!(
            refused(&attribute("otel_messaging.delivery.attempt")),
            format!("otel_messaging.delivery.attempt {twice}")
        );
        let metric = "metrics: [{name: messaging.client.sent.messages, instrument: counter, unit: '1', \
                      stability: development, attributes: []}]";
        assert_eq!(refused(metric), format!("messaging.client.sent.messages {twice}"));
        let span = "span.otel_messaging.kafka.send.client";
        assert_eq!(refused(&refinement(span, "messaging.send.client", "")), format!("{span} {twice}"));
        let groups = "attribute_groups: [{id: a, attributes: []}, {id: a, attributes: []}]";
        assert_eq!(refused(groups), format!("a {twice}"));
    }

    fn refinement(id: &str, r#ref: &str, attributes: &str) -> String {
        format!("span_refinements: [{{id: {id}, ref: {ref}, attributes: [{attributes}]}}]")
    }

    #[test]
    fn a_refinement_is_of_a_span_that_there_is() {
        let nats = |span: &str| refined("messaging.nats", span);
        fn refined(of: &str, span: &str) -> String {
            refused(&refinement(&format!("span.{of}.{span}"), &format!("messaging.{span}"), ""))
        }
        assert_eq!(nats("ask.client"), "span.messaging.nats.ask.client refines ask.client, which there is not");
        let says_not = "span.messaging.pulsar.send.client does not say which spans it is about";
        assert_eq!(refined("messaging.pulsar", "send.client"), says_not);
        let other = refused(&refinement("span.messaging.nats.send.client", "messaging.send.producer", ""));
        assert_eq!(other, "span.messaging.nats.send.client does not say which spans it is about");
        let http = refused(&refinement("span.otel_messaging.x", "http.client", ""));
        assert_eq!(http, "span.otel_messaging.x refines no span of messaging");
        let group = refused(&refinement("span.otel_messaging.x", "messaging.x", "{ref_group: z}"));
        assert_eq!(group, "there is no group z");
    }

    #[test]
    fn attributes_have_a_meaning_and_examples_of_their_type() {
        let attribute = |rest: &str| format!("attributes: [{{key: x, stability: development, {rest}}}]");
        assert_eq!(refused(&attribute("type: int, brief: '', examples: [1]")), "x does not say what it means");
        assert_eq!(refused(&attribute("type: int, brief: A number.")), "x has no examples");
        let wrong = "x has an example of another type";
        assert_eq!(refused(&attribute("type: int, brief: A number., examples: [one]")), wrong);
        assert_eq!(refused(&attribute("type: 'template[string[]]', brief: Lists., examples: [blue]")), wrong);
        let metric = "metrics: [{name: m, instrument: histogram, unit: s, stability: development, attributes: []}]";
        assert!(refused(metric).contains("a histogram has boundaries"));
    }
}
