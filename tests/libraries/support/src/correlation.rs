//! Correlation policy: where the process span of a message stands, and what of its sender's reaches the handler.
//!
//! One table for all brokers. Each makes the messages by its own means, and its wrapped consumer delivers them.

use std::{fmt, future::Future, time::Duration};

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    baggage::BaggageExt,
    propagation::Extractor,
    trace::{FutureExt, SpanContext, TraceContextExt, TraceState},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{
    AutoCorrelation, Correlation, Instrumentation, InstrumentationBuilder, MessageExt, parse_traceparent, process_batch,
};

use crate::Sdk;

/// A row for each kind of [`Message`] and whether a span was active when it was delivered, a column for each policy; the
/// last is `Parent` for a source that is not trusted.
///
/// A cell is what the process span is a child of, then what it links: `creation` is the context that the sender left in
/// the message, of each message for a batch; `ambient` is the span that was active.
///
/// What a message brings besides is in the last rows. Baggage is current for the handler of its message and for nobody
/// else; the handler of a batch sees none. The tracestate is on the link, and on the span where that continues the sender's
/// trace.
const TABLE: &str = "
message                                       | ambient | Link                         | ParentIfNoAmbient            | Parent                       | Auto                         | untrusted
valid, unsampled, foreign, read               | no      | root +creation               | creation +creation           | creation +creation           | creation +creation           | root +creation
valid, unsampled, foreign, read               | yes     | ambient +creation            | ambient +creation            | creation +creation +ambient  | ambient +creation            | ambient +creation
absent, malformed                             | no      | root                         | root                         | root                         | root                         | root
absent, malformed                             | yes     | ambient                      | ambient                      | ambient                      | ambient                      | ambient
old, redelivered, dead-lettered, replayed     | no      | root +creation               | creation +creation           | creation +creation           | root +creation               | root +creation
old, redelivered, dead-lettered, replayed     | yes     | ambient +creation            | ambient +creation            | creation +creation +ambient  | root +creation +ambient      | ambient +creation
batch                                         | no      | root +creation +creation     | root +creation +creation     | root +creation +creation     | root +creation +creation     | root +creation +creation
batch                                         | yes     | ambient +creation +creation  | ambient +creation +creation  | ambient +creation +creation  | ambient +creation +creation  | ambient +creation +creation
baggage                                       |         | kept                         | kept                         | kept                         | kept                         | dropped
tracestate                                    |         | kept                         | kept                         | kept                         | kept                         | dropped
";

/// What of the table a broker does not have, and why; the documentation of [`AutoCorrelation`] says it in the same words.
const LACKING: [(&str, &[Message], &str); 4] = [
    ("Kafka", &[Message::Replayed], "an offset that is read again looks the same as at the first read"),
    ("RabbitMQ", &[Message::Replayed], "a stream does not report earlier reads"),
    ("JetStream", &[Message::DeadLettered], "JetStream has no dead-letter queue"),
    (
        "core NATS",
        &[Message::Old, Message::Redelivered, Message::DeadLettered, Message::Replayed],
        "core NATS stores no messages",
    ),
];

/// What kind of message arrives. All but `Absent` bring baggage of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// With a context and tracestate, on its usual way.
    Valid,
    /// The same, and the sender's trace is not recorded.
    Unsampled,
    /// The same in the spelling of another library: header names of another case, flags of a later version. A driver adds
    /// what else its broker's other clients do.
    Foreign,
    /// With a context and tracestate in headers of the application's own, which its function reads.
    Read,
    /// Without any headers, after one that had them.
    Absent,
    /// With a `traceparent` of another format.
    Malformed,
    /// Sent longer ago than [`AutoCorrelation`] allows.
    Old,
    /// Delivered, or tried, for the second time.
    Redelivered,
    /// From where those go that nobody could handle.
    DeadLettered,
    /// Read by a consumer that came later than the message.
    Replayed,
    /// Two valid ones, handled together.
    Batch,
}

impl Message {
    /// Each one that is `Absent` follows one with baggage.
    const ALL: [Self; 11] = [
        Self::Valid,
        Self::Unsampled,
        Self::Foreign,
        Self::Read,
        Self::Absent,
        Self::Malformed,
        Self::Old,
        Self::Redelivered,
        Self::DeadLettered,
        Self::Replayed,
        Self::Batch,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unsampled => "unsampled",
            Self::Foreign => "foreign",
            Self::Read => "read",
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::Old => "old",
            Self::Redelivered => "redelivered",
            Self::DeadLettered => "dead-lettered",
            Self::Replayed => "replayed",
            Self::Batch => "batch",
        }
    }
}

/// A broker's consumer of one policy, and what its messages are made with.
pub trait Consumer {
    /// What it delivers.
    type Message: MessageExt;

    /// The age that a broker can give a message which cannot stamp it with a time of the past. Elsewhere it is the default.
    const MAX_AGE: Option<Duration> = None;

    /// Sends a message of this kind with these headers, past the instrumentation, so that it is the next to be delivered.
    fn make(&mut self, message: Message, headers: &[(&str, String)]) -> impl Future<Output = ()>;

    /// Delivers it.
    fn next(&mut self, message: Message) -> impl Future<Output = Self::Message>;
}

/// Instrumentations of one column, which report to the same SDK.
#[derive(Debug)]
pub struct Given {
    /// Where they report.
    pub sdk: Sdk,
    /// The one of the column's policy, for the consumer.
    pub own: Instrumentation,
    /// One of another policy, for what the consumer belongs to, where it has a switch of its own.
    pub other: Instrumentation,
}

/// Holds every cell of the table against a broker. `open` gives a consumer of a column.
///
/// # Panics
///
/// When a cell is another one than in the table.
pub async fn check<C: Consumer>(broker: &str, open: impl AsyncFn(Given) -> C) {
    let (_, lacking, _) = LACKING.into_iter().find(|(lacks, ..)| *lacks == broker).expect("a broker of the table");
    let table = Table::new();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for policy in 0..table.policies.len() {
        let mut column = Column { sdk: Sdk::new(), keeps: table.keeps(policy), sent: 0 };
        let given = |auto: AutoCorrelation| Given {
            sdk: column.sdk.clone(),
            own: table.configure(policy, auto, column.sdk.instrumentation_builder()).build(),
            other: table.configure(policy + 1, auto, column.sdk.instrumentation_builder()).build(),
        };
        let mut consumer = open(given(AutoCorrelation::default())).await;
        let mut of_old = match C::MAX_AGE {
            Some(age) => Some(open(given(AutoCorrelation::default().max_age(age))).await),
            None => None,
        };
        for message in Message::ALL.into_iter().filter(|message| !lacking.contains(message)) {
            let consumer = of_old.as_mut().filter(|_| message == Message::Old).unwrap_or(&mut consumer);
            for ambient in ["no", "yes"] {
                let cell = format!("{}, {}, ambient: {ambient}", table.policies[policy], message.name());
                expected.push(format!("{cell}: {}", table.cell(message.name(), ambient, policy)));
                found.push(format!("{cell}: {}", column.cell(consumer, message, ambient == "yes").await));
            }
        }
    }
    let wrong: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "{broker}, of what was found and what the table says: {wrong:#?}");
}

/// The table, read.
struct Table {
    policies: Vec<&'static str>,
    rows: Vec<Vec<&'static str>>,
}

impl Table {
    fn new() -> Self {
        let mut rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let policies = rows.next().expect("a head").split_off(2);
        Self { policies, rows: rows.collect() }
    }

    fn cell(&self, message: &str, ambient: &str, policy: usize) -> &'static str {
        let mut rows =
            self.rows.iter().filter(|row| row[0].split(", ").any(|name| name == message) && row[1] == ambient);
        let (Some(row), None) = (rows.next(), rows.next()) else { panic!("not one row for {message}, {ambient}") };
        row[2 + policy]
    }

    fn keeps(&self, policy: usize) -> Keeps {
        let keeps = |what| match self.cell(what, "", policy) {
            "kept" => true,
            "dropped" => false,
            other => panic!("{what} is {other}"),
        };
        Keeps { baggage: keeps("baggage"), tracestate: keeps("tracestate") }
    }

    fn configure(
        &self,
        policy: usize,
        auto: AutoCorrelation,
        builder: InstrumentationBuilder,
    ) -> InstrumentationBuilder {
        let builder = builder.with_context_reader(|headers, _| read(headers));
        match self.policies[policy % self.policies.len()] {
            "Link" => builder.with_correlation(Correlation::Link),
            "ParentIfNoAmbient" => builder.with_correlation(Correlation::ParentIfNoAmbient),
            "Parent" => builder.with_correlation(Correlation::Parent),
            "Auto" => builder.with_correlation(Correlation::Auto(auto)),
            "untrusted" => builder.with_correlation(Correlation::Parent).with_untrusted_source(true),
            other => panic!("no policy {other}"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Keeps {
    baggage: bool,
    tracestate: bool,
}

const TRACESTATE: &str = "vendor=opaque";

const READ_TRACEPARENT: &str = "ce_traceparent";
const READ_TRACESTATE: &str = "ce_tracestate";

/// The application's function for a context of its own form.
fn read(headers: &dyn Extractor) -> Option<SpanContext> {
    let read = parse_traceparent(headers.get(READ_TRACEPARENT)?)?;
    let state = headers.get(READ_TRACESTATE)?.parse().ok()?;
    Some(SpanContext::new(read.trace_id(), read.span_id(), read.trace_flags(), true, state))
}

/// What the sender of a message left in it.
struct Sender {
    /// If it is one.
    creation: Option<SpanContext>,
    baggage: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Sender {
    /// The how-manieth of a column, so that each has ids and baggage of its own.
    fn new(number: u64, message: Message) -> Self {
        if message == Message::Absent {
            return Self { creation: None, baggage: None, headers: Vec::new() };
        }
        let (trace, span) = (TraceId::from(u128::from(number) << 64 | 7), SpanId::from(0xabcd_0000 + number));
        let (flags, sampled) = match message {
            Message::Unsampled => ("00", TraceFlags::NOT_SAMPLED),
            Message::Foreign => ("03", TraceFlags::SAMPLED),
            _ => ("01", TraceFlags::SAMPLED),
        };
        let traceparent = match message {
            Message::Malformed => "Root=1-67891233-abcdef012345678912345678".to_owned(),
            _ => format!("00-{trace}-{span}-{flags}"),
        };
        let names = match message {
            Message::Foreign => ["Traceparent", "TraceState", "Baggage"],
            Message::Read => [READ_TRACEPARENT, READ_TRACESTATE, "baggage"],
            _ => ["traceparent", "tracestate", "baggage"],
        };
        let baggage = format!("number={number}");
        let headers = names.into_iter().zip([traceparent, TRACESTATE.to_owned(), baggage.clone()]).collect();
        let creation = SpanContext::new(trace, span, sampled, true, TraceState::default());
        Self { creation: (message != Message::Malformed).then_some(creation), baggage: Some(baggage), headers }
    }
}

/// One policy's.
struct Column {
    sdk: Sdk,
    keeps: Keeps,
    sent: u64,
}

impl Column {
    /// A cell as it is found.
    async fn cell<C: Consumer>(&mut self, consumer: &mut C, message: Message, ambient: bool) -> String {
        let around = self.sdk.app_span("around");
        let current = if ambient { around.clone() } else { Context::new() };
        let mut senders = Vec::new();
        let mut arrived = Vec::new();
        for _ in 0..if message == Message::Batch { 2 } else { 1 } {
            self.sent += 1;
            let sender = Sender::new(self.sent, message);
            consumer.make(message, &sender.headers).await;
            senders.push(sender);
            arrived.push(consumer.next(message).with_context(current.clone()).await);
        }
        let seen = match &arrived[..] {
            [alone] => alone.process(handler).with_context(current).await,
            _ => async { process_batch(&arrived, handler).await }.with_context(current).await,
        };
        let Seen { span, baggage } = seen.expect("it is no error");
        let brought = senders[0].baggage.as_ref().filter(|_| self.keeps.baggage && message != Message::Batch);
        assert_eq!(baggage, Vec::from_iter(brought.cloned()), "the baggage of a message, {message:?}");
        assert!(Context::current().baggage().is_empty(), "baggage leaked, {message:?}");
        let spans = self.sdk.spans();
        let process = spans.iter().find(|ended| ended.span_context.span_id() == span).expect("it has ended");
        let creations: Vec<_> = senders.into_iter().filter_map(|sender| sender.creation).collect();
        self.describe(process, &creations, around.span().span_context())
    }

    /// Where a span stands, as a cell has it. Whatever it stands to is the same in all its parts.
    fn describe(&self, process: &SpanData, creations: &[SpanContext], ambient: &SpanContext) -> String {
        let creation = |span: SpanId| creations.iter().find(|creation| creation.span_id() == span);
        let tracestate = if self.keeps.tracestate { TRACESTATE } else { "" };
        let own = &process.span_context;
        let (mut cell, trace, state) = match process.parent_span_id {
            SpanId::INVALID => ("root".to_owned(), None, ""),
            span if span == ambient.span_id() => ("ambient".to_owned(), Some(ambient.trace_id()), ""),
            span => match creation(span) {
                Some(creation) => ("creation".to_owned(), Some(creation.trace_id()), tracestate),
                None => panic!("a child of {span}: {process:?}"),
            },
        };
        let others = creations.iter().chain([ambient]).map(SpanContext::trace_id);
        let expected = trace.into_iter().collect::<Vec<_>>();
        assert_eq!(others.filter(|other| *other == own.trace_id()).collect::<Vec<_>>(), expected, "{process:?}");
        assert_eq!(own.trace_state().header(), state, "{process:?}");
        for link in process.links.iter().map(|link| &link.span_context) {
            let (name, linked, state) = match creation(link.span_id()) {
                Some(creation) => (" +creation", creation, tracestate),
                None => (" +ambient", ambient, ""),
            };
            let parts = |span: &SpanContext| (span.trace_id(), span.span_id(), span.trace_flags());
            assert_eq!((parts(link), link.trace_state().header()), (parts(linked), state.to_owned()), "{process:?}");
            cell += name;
        }
        cell
    }
}

/// What is current for a handler.
struct Seen {
    span: SpanId,
    baggage: Vec<String>,
}

async fn handler() -> Result<Seen, fmt::Error> {
    let current = Context::current();
    let baggage = current.baggage().iter().map(|(key, (value, _))| format!("{key}={value}")).collect();
    Ok(Seen { span: current.span().span_context().span_id(), baggage })
}

#[cfg(test)]
mod tests {
    use super::{LACKING, Message, Table};

    #[test]
    fn auto_documents_what_a_broker_lacks() {
        let policy = include_str!("../../../../crates/otel-messaging/src/description/policy.rs");
        for (broker, _, reason) in LACKING {
            let row = format!("/// | {broker} |");
            let row = policy.lines().find(|line| line.trim_start().starts_with(&row)).expect(broker);
            assert!(row.contains(reason), "{row}");
        }
    }

    #[test]
    fn each_message_has_its_cells_and_each_row_its_messages() {
        let table = Table::new();
        for message in Message::ALL {
            for ambient in ["no", "yes"] {
                table.cell(message.name(), ambient, 0);
            }
        }
        let named = table.rows.iter().flat_map(|row| row[0].split(", ")).count();
        assert_eq!(named, 2 * Message::ALL.len() + 2, "a row that stands for nothing");
    }
}
