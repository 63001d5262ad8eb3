use std::collections::BTreeMap;

use opentelemetry::{
    Context, InstrumentationScope, KeyValue, SpanId, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{
    OperationType,
    semconv::{attribute, extension},
};

use crate::{
    attributes,
    text::{self, Block},
};

/// A span as it should be recorded; made by [`span`].
///
/// Without setters it is an internal root span of any scope, without links, events, attributes or an error.
#[derive(Debug, Clone)]
pub struct ExpectedSpan {
    pub(crate) name: String,
    kind: SpanKind,
    scope: Option<InstrumentationScope>,
    parent: Option<SpanRef>,
    links: Vec<(SpanRef, Vec<KeyValue>)>,
    status: Status,
    events: Vec<String>,
    /// `None` is any value.
    attributes: BTreeMap<String, Option<Value>>,
    has_others: bool,
}

/// Expects a span of this name.
///
/// ```
/// use otel_messaging::OperationType;
/// use otel_messaging_testing::span;
///
/// let sent = span("send orders").operation("send", OperationType::Send).system("kafka").destination("orders");
/// let failed = sent.clone().child_of("request").error("queue_full", "the queue is full");
/// # let _ = failed;
/// ```
#[must_use]
pub fn span(name: impl Into<String>) -> ExpectedSpan {
    ExpectedSpan {
        name: name.into(),
        kind: SpanKind::Internal,
        scope: None,
        parent: None,
        links: Vec::new(),
        status: Status::Unset,
        events: Vec::new(),
        attributes: BTreeMap::new(),
        has_others: false,
    }
}

/// Which span is meant as a parent or by a link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SpanRef {
    /// The one recorded span of this name.
    Name(String),
    /// The span at this position, from 0.
    Position(usize),
    /// The span with these ids, recorded or not.
    Ids(TraceId, SpanId),
}

impl From<&str> for SpanRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for SpanRef {
    fn from(position: usize) -> Self {
        Self::Position(position)
    }
}

impl From<&SpanContext> for SpanRef {
    fn from(context: &SpanContext) -> Self {
        Self::Ids(context.trace_id(), context.span_id())
    }
}

/// The span in the context.
impl From<&Context> for SpanRef {
    fn from(context: &Context) -> Self {
        context.span().span_context().into()
    }
}

/// By its ids.
impl From<&SpanData> for SpanRef {
    fn from(span: &SpanData) -> Self {
        (&span.span_context).into()
    }
}

impl ExpectedSpan {
    /// Another name, for a span like another.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Its kind; the default is internal.
    #[must_use]
    pub fn kind(self, kind: SpanKind) -> Self {
        Self { kind, ..self }
    }

    /// Its whole instrumentation scope; the default is any.
    #[must_use]
    pub fn scope(self, scope: InstrumentationScope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Its parent, which is in the same trace.
    #[must_use]
    pub fn child_of(self, parent: impl Into<SpanRef>) -> Self {
        Self { parent: Some(parent.into()), ..self }
    }

    /// It has no parent: the default.
    #[must_use]
    pub fn root(self) -> Self {
        Self { parent: None, ..self }
    }

    /// One more link, without attributes.
    #[must_use]
    pub fn link(self, to: impl Into<SpanRef>) -> Self {
        self.link_with(to, [])
    }

    /// One more link, with these attributes.
    #[must_use]
    pub fn link_with(mut self, to: impl Into<SpanRef>, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.links.push((to.into(), attributes.into_iter().collect()));
        self
    }

    /// One more link, with this `messaging.message.id`: as spans of several messages have it.
    #[must_use]
    pub fn link_of_message(self, to: impl Into<SpanRef>, id: &str) -> Self {
        self.link_with(to, [KeyValue::new(attribute::MESSAGING_MESSAGE_ID, id.to_owned())])
    }

    /// More links, without attributes.
    #[must_use]
    pub fn links(self, to: impl IntoIterator<Item = impl Into<SpanRef>>) -> Self {
        to.into_iter().fold(self, Self::link)
    }

    /// One more event of the span, by its name.
    #[must_use]
    pub fn event(mut self, name: impl Into<String>) -> Self {
        self.events.push(name.into());
        self
    }

    /// Its status is an error with this description, and this is its `error.type`.
    #[must_use]
    pub fn error(mut self, error_type: impl Into<Value>, description: &str) -> Self {
        self.status = Status::error(description.to_owned());
        self.attribute(attribute::ERROR_TYPE, error_type)
    }

    /// An attribute.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(key.to_owned(), Some(value.into()));
        self
    }

    /// An attribute whose value differs between runs.
    #[must_use]
    pub fn any_value(mut self, key: &str) -> Self {
        self.attributes.insert(key.to_owned(), None);
        self
    }

    /// No such attribute, whatever was set before: for a span like another.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.attributes.remove(key);
        self
    }

    /// Attributes that are not named here do not matter.
    #[must_use]
    pub fn other_attributes(self) -> Self {
        Self { has_others: true, ..self }
    }

    /// `messaging.operation.name` and `messaging.operation.type`, and the kind that the convention gives to this type. The span
    /// of a send whose message cannot carry its context has the kind [`Client`](SpanKind::Client).
    #[must_use]
    pub fn operation(mut self, name: &str, of: OperationType) -> Self {
        self.kind = match of {
            OperationType::Create | OperationType::Send => SpanKind::Producer,
            OperationType::Process => SpanKind::Consumer,
            _ => SpanKind::Client,
        };
        self.attribute(attribute::MESSAGING_OPERATION_NAME, name.to_owned())
            .attribute(attribute::MESSAGING_OPERATION_TYPE, of.as_str())
    }

    /// `messaging.system`.
    #[must_use]
    pub fn system(self, system: &str) -> Self {
        self.attribute(attribute::MESSAGING_SYSTEM, system.to_owned())
    }

    /// `messaging.destination.name`.
    #[must_use]
    pub fn destination(self, name: &str) -> Self {
        self.attribute(attribute::MESSAGING_DESTINATION_NAME, name.to_owned())
    }

    /// `messaging.message.id`.
    #[must_use]
    pub fn message_id(self, id: &str) -> Self {
        self.attribute(attribute::MESSAGING_MESSAGE_ID, id.to_owned())
    }

    /// `messaging.consumer.group.name`.
    #[must_use]
    pub fn consumer_group(self, name: &str) -> Self {
        self.attribute(attribute::MESSAGING_CONSUMER_GROUP_NAME, name.to_owned())
    }

    /// `messaging.client.id`.
    #[must_use]
    pub fn client_id(self, id: &str) -> Self {
        self.attribute(attribute::MESSAGING_CLIENT_ID, id.to_owned())
    }

    /// `messaging.batch.message_count`.
    #[must_use]
    pub fn batch_of(self, messages: i64) -> Self {
        self.attribute(attribute::MESSAGING_BATCH_MESSAGE_COUNT, messages)
    }

    /// `server.address` and `server.port`.
    #[must_use]
    pub fn server(self, address: &str, port: u16) -> Self {
        self.attribute(attribute::SERVER_ADDRESS, address.to_owned()).attribute(attribute::SERVER_PORT, i64::from(port))
    }

    /// `network.peer.address` and `network.peer.port`.
    #[must_use]
    pub fn peer(self, address: &str, port: u16) -> Self {
        let expected = self.attribute(attribute::NETWORK_PEER_ADDRESS, address.to_owned());
        expected.attribute(attribute::NETWORK_PEER_PORT, i64::from(port))
    }

    /// `otel_messaging.delivery.attempt`, from 1.
    #[must_use]
    pub fn attempt(self, number: i64) -> Self {
        self.attribute(extension::DELIVERY_ATTEMPT, number)
    }

    /// `otel_messaging.settlement.outcome`.
    #[must_use]
    pub fn settled(self, outcome: &str) -> Self {
        self.attribute(extension::SETTLEMENT_OUTCOME, outcome.to_owned())
    }

    /// The scope of a recorded span, where it is compared.
    pub(crate) fn scope_of(&self, span: &SpanData) -> Option<String> {
        self.scope.is_some().then(|| text::scope(&span.instrumentation_scope, true))
    }

    /// As it should be recorded. Parts that may be anything are as in `found`.
    pub(crate) fn block(&self, found: Option<&SpanData>, name_of: &dyn Fn(&SpanRef) -> String) -> Block {
        let found = found.map_or(&[][..], |span| &span.attributes);
        let value_of = |key: &str| found.iter().find(|one| one.key.as_str() == key).map(|one| &one.value);
        let named = self.attributes.iter().map(|(key, value)| match value.as_ref().or_else(|| value_of(key)) {
            Some(value) => text::attribute(key, value),
            None => format!("{key} = (any value)"),
        });
        let others = found.iter().filter(|one| self.has_others && !self.attributes.contains_key(one.key.as_str()));
        let mut attributes: Vec<_> = named.chain(self::attributes(others)).collect();
        attributes.sort();
        let links = self.links.iter().map(|(to, own)| text::link(&name_of(to), &self::attributes(own)));
        Block {
            name: self.name.clone(),
            kind: self.kind.clone(),
            scope: self.scope.as_ref().map(|scope| text::scope(scope, true)),
            parent: self.parent.as_ref().map(name_of),
            links: links.collect(),
            status: self.status.clone(),
            events: self.events.clone(),
            attributes,
        }
    }
}
