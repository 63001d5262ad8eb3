//! What may be emitted, as data: the facts of semantic conventions 1.44.0 in `facts/`, and our own `registry/`.
//!
//! Names, types and requirement levels only; what they mean stands in the convention.

mod registry;
mod table;

use std::{collections::BTreeMap, fmt, sync::LazyLock};

/// The facts and the registry together.
#[derive(Debug)]
pub struct Convention {
    attributes: BTreeMap<String, Attribute>,
    /// By system and span. `-` are systems that have no column of their own, `*` all of them; `kafka+` comes on top.
    spans: BTreeMap<(String, String), BTreeMap<String, Level>>,
    /// By the same: what our registry references there, and whether it is `sampling_relevant`.
    at_start: BTreeMap<(String, String), BTreeMap<String, bool>>,
    metrics: BTreeMap<String, Metric>,
    events: BTreeMap<String, Event>,
    deprecated: Vec<&'static str>,
}

/// An attribute of one of the registries.
#[derive(Debug)]
pub struct Attribute {
    /// What values it has.
    pub value: Type,
    /// `stable` or `development`.
    pub stability: String,
    /// Which registry defines it.
    pub source: Source,
    /// What it means. Of the convention's own it stands there, and not here.
    pub brief: String,
    /// Values that it may have; none where all of them are known.
    pub examples: Vec<String>,
}

/// What values an attribute has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Yes or no.
    Boolean,
    /// Lists of text, under every name that begins with the attribute's.
    Lists,
    /// One of these texts.
    OneOf(Vec<String>),
}

/// Which registry defines a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// OpenTelemetry's.
    Convention,
    /// The one in `registry/`.
    Ours,
}

/// How much a signal needs an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Always.
    Required,
    /// Always when its condition holds.
    ConditionallyRequired,
    /// When it is known.
    Recommended,
    /// Only when a user asks for it.
    OptIn,
}

/// A metric of one of the registries.
#[derive(Debug)]
pub struct Metric {
    /// Whether it is a histogram; a counter otherwise.
    pub histogram: bool,
    /// The unit, as UCUM spells it.
    pub unit: String,
    /// The boundaries that its registry advises.
    pub boundaries: Vec<f64>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Level>,
    /// `stable` or `development`.
    pub stability: String,
    /// Which registry defines it.
    pub source: Source,
}

/// A log event of the convention.
#[derive(Debug)]
pub struct Event {
    /// The number of the severity that the convention advises.
    pub severity: i32,
    /// The attributes it may have.
    pub attributes: Vec<&'static str>,
    /// `stable` or `development`.
    pub stability: &'static str,
}

impl Convention {
    /// Both, read once.
    ///
    /// # Panics
    ///
    /// When one of the files is not what it should be.
    #[must_use]
    pub fn get() -> &'static Self {
        static CONVENTION: LazyLock<Convention> = LazyLock::new(|| {
            let mut convention = table::read();
            registry::add_to(&mut convention);
            convention
        });
        &CONVENTION
    }

    /// What is known of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name).or_else(|| {
            let mut templates = self.attributes.iter().filter(|(_, attribute)| attribute.value == Type::Lists);
            let is_of = |template: &str| name.strip_prefix(template).is_some_and(|rest| rest.starts_with('.'));
            templates.find(|(template, _)| is_of(template)).map(|(_, attribute)| attribute)
        })
    }

    /// All attributes of a registry.
    pub fn attributes(&self, source: Source) -> impl Iterator<Item = (&str, &Attribute)> {
        self.attributes.iter().filter(move |(_, it)| it.source == source).map(|(name, it)| (name.as_str(), it))
    }

    /// The attributes of a span, by the convention's name for it (`send.producer`).
    #[must_use]
    pub fn span(&self, system: &str, span: &str) -> BTreeMap<&str, Level> {
        let of = |system: &str| self.spans.get(&(system.to_owned(), span.to_owned()));
        let everywhere = of("*").into_iter().flatten();
        let own = of(system).or_else(|| of("-")).into_iter().flatten();
        let more = of(&format!("{system}+")).into_iter().flatten();
        own.chain(everywhere).chain(more).map(|(name, level)| (name.as_str(), *level)).collect()
    }

    /// The attributes that our registry adds to a span, and whether it says that they are there when the span starts.
    #[must_use]
    pub fn at_start(&self, system: &str, span: &str) -> BTreeMap<&str, bool> {
        let of = |system: &str| self.at_start.get(&(system.to_owned(), span.to_owned())).into_iter().flatten();
        let all = of("*").chain(of(system)).chain(of(&format!("{system}+")));
        all.map(|(name, at_start)| (name.as_str(), *at_start)).collect()
    }

    /// What is known of a metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.get(name)
    }

    /// All metrics.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, &Metric)> {
        self.metrics.iter().map(|(name, metric)| (name.as_str(), metric))
    }

    /// All events.
    pub fn events(&self) -> impl Iterator<Item = (&str, &Event)> {
        self.events.iter().map(|(name, event)| (name.as_str(), event))
    }

    /// What is known of an event.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.get(name)
    }

    /// Why an attribute of this name may not be emitted.
    ///
    /// # Errors
    ///
    /// When no registry knows it.
    pub fn knows(&self, name: &str) -> Result<(), String> {
        if self.deprecated.contains(&name) {
            return Err(format!("`{name}` is a name of an earlier version of the convention"));
        }
        self.attribute(name).map(|_| ()).ok_or_else(|| format!("neither registry knows `{name}`"))
    }
}

impl Level {
    fn parse(text: &str) -> Self {
        match text {
            "required" => Self::Required,
            "conditionally_required" => Self::ConditionallyRequired,
            "recommended" => Self::Recommended,
            "opt_in" => Self::OptIn,
            other => panic!("`{other}` is no requirement level"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::ConditionallyRequired => "conditionally required",
            Self::Recommended => "recommended",
            Self::OptIn => "opt-in",
        })
    }
}

impl Type {
    fn parse(text: &str) -> Self {
        match text {
            "string" => Self::String,
            "int" => Self::Int,
            "double" => Self::Double,
            "boolean" => Self::Boolean,
            "template[string[]]" => Self::Lists,
            other => panic!("`{other}` is no type of an attribute"),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Int => f.write_str("int"),
            Self::Double => f.write_str("double"),
            Self::Boolean => f.write_str("boolean"),
            Self::Lists => f.write_str("list of strings"),
            Self::OneOf(values) => f.write_str(&values.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read() {
        let convention = Convention::get();
        let send = convention.span("kafka", "send.producer");
        assert_eq!(send["messaging.system"], Level::Required);
        assert_eq!(send["messaging.kafka.message.key"], Level::Recommended);
        assert_eq!(send["otel_messaging.header"], Level::OptIn);
        assert_eq!(convention.span("rabbitmq", "process.consumer")["messaging.destination.name"], Level::Required);
        // RabbitMQ has no column for it: the general one holds, and ours.
        let mut create = convention.span("rabbitmq", "create.producer");
        assert_eq!(create.remove("messaging.destination.temporary"), Some(Level::ConditionallyRequired));
        assert_eq!(create.remove("messaging.destination.anonymous"), Some(Level::ConditionallyRequired));
        assert_eq!(create, convention.span("-", "create.producer"));
        assert!(convention.span("rabbitmq", "send.client").contains_key("messaging.rabbitmq.destination.routing_key"));
        assert!(convention.span("kafka", "send.producer").contains_key("messaging.destination.anonymous"));
        assert!(!convention.span("kafka", "settle.client").contains_key("messaging.destination.anonymous"));
        let fetch = convention.span("nats", "receive.client");
        assert_eq!(fetch["messaging.nats.stream.name"], Level::Recommended);
        let outcome = convention.attribute("otel_messaging.settlement.outcome").unwrap();
        assert!(matches!(&outcome.value, Type::OneOf(values) if values.contains(&"term".to_owned())));
        assert_eq!(convention.metric("messaging.process.duration").unwrap().boundaries.len(), 14);
        let queue_time = convention.metric("otel_messaging.queue_time").unwrap();
        assert_eq!((queue_time.unit.as_str(), queue_time.boundaries.len()), ("s", 14));
        let header = convention.attribute("otel_messaging.header").unwrap();
        assert_eq!(header.examples, ["blue", "blue, green"]);
        assert!(header.brief.starts_with("The values of a message header"), "{}", header.brief);
        assert_eq!(convention.event("messaging.process.exception").unwrap().severity, 17);
        assert_eq!(convention.knows("otel_messaging.header.x-tenant"), Ok(()));
        assert!(convention.knows("messaging.url").unwrap_err().contains("earlier version"));
        assert!(convention.knows("messaging.nats.subject").unwrap_err().contains("neither registry"));
    }

    #[test]
    fn every_name_that_is_referenced_is_defined_once() {
        let convention = Convention::get();
        let spans = convention.spans.values().flat_map(BTreeMap::keys);
        let metrics = convention.metrics.values().flat_map(|metric| metric.attributes.keys());
        for name in spans.chain(metrics) {
            assert_eq!(convention.knows(name), Ok(()));
        }
    }

    /// OpenTelemetry has no convention for NATS: all that is told of it beside the general names has to stand in ours.
    #[test]
    fn nats_has_its_convention_in_our_registry() {
        let convention = Convention::get();
        let of_nats = |name: &&str| name.starts_with("messaging.nats.");
        let ours: Vec<_> = convention.attributes(Source::Ours).map(|(name, _)| name).filter(of_nats).collect();
        assert!(ours.len() >= 5, "{ours:?}");
        assert_eq!(convention.attributes(Source::Convention).map(|(name, _)| name).find(of_nats), None);
        let recorded: Vec<_> = convention.spans.iter().filter(|((system, _), _)| system.starts_with("nats")).collect();
        assert!(!recorded.is_empty());
        for name in
            recorded.into_iter().flat_map(|(_, attributes)| attributes.keys()).filter(|it| of_nats(&it.as_str()))
        {
            assert!(ours.contains(&name.as_str()), "{name}");
        }
    }
}
