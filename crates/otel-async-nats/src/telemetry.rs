//! Which operations there are, what a destination is called, and what one client's telemetry is.

#[cfg(feature = "jetstream")]
use std::iter;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{HeaderMap, HeaderValue, Subject, header::NATS_MESSAGE_ID};
#[cfg(feature = "jetstream")]
use otel_messaging::adapter::Batch;
use otel_messaging::{
    Instrumentation,
    adapter::{
        Arrival, Attributes, ClientSpan, Clock, Destination, Operation, OperationName, OperationStart, ProcessSpan,
        Settles, SourceId, Telemetry, scope,
    },
    semconv::{attribute, extension},
};

use crate::{
    error::ErrorType,
    headers::{HeaderCase, HeaderExtractor, HeaderInjector, ScannedHeaders, wire_length},
    ledger::Ledger,
    server_info::{Address, ServerInfo},
    settle::{DeliveredMessage, MessageDescription, SettlementInFlight, SettlementTarget},
};

pub(crate) const PUBLISH: OperationName = OperationName::send("publish");
pub(crate) const REQUEST: OperationName = OperationName::send("request");
#[cfg(feature = "service")]
pub(crate) const RESPOND: OperationName = OperationName::send("respond");
const PROCESS: OperationName = OperationName::process("process");
const PROCESS_FETCHED: OperationName = PROCESS.of(FETCH);
const FETCH: OperationName = OperationName::receive("fetch");
/// Of a consumer that fails whose messages the server pushes: nothing else is received.
#[cfg(feature = "jetstream")]
const CONSUME: OperationName = OperationName::receive("consume");

const SYSTEM: &str = "nats";

/// A stream takes no longer headers.
const MAX_HEADERS: usize = 65_535;

/// The telemetry of one client, which all its wrappers share.
///
/// It holds the raw client. So no message holds it: a message must not keep a connection open.
#[derive(Clone)]
pub(crate) struct ClientTelemetry {
    core: Arc<Telemetry>,
    header_case: HeaderCase,
    message_limit: Option<usize>,
    name: Option<Arc<str>>,
    server: Arc<ServerInfo>,
    inbox_prefix: Arc<str>,
    /// Its consumers are sources of messages.
    source: SourceId,
    /// The delivered messages that are not settled yet.
    ledger: Arc<Ledger>,
}

/// How many bytes a message has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLength {
    pub(crate) body: usize,
    /// In headers that the client adds by itself.
    pub(crate) added: usize,
}

impl From<usize> for MessageLength {
    fn from(body: usize) -> Self {
        Self { body, added: 0 }
    }
}

/// What is known of a client only when it connects.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectInfo {
    /// Its name for itself.
    pub(crate) name: Option<Arc<str>>,
    /// The server, where there was only one to connect to.
    pub(crate) only_server: Option<(Arc<str>, u16)>,
    /// The client connects to no servers but those it was given.
    pub(crate) ignores_discovered_servers: bool,
    pub(crate) header_case: HeaderCase,
    /// How long a message may be with its context, where that is less than the server says.
    pub(crate) message_limit: Option<usize>,
}

impl ClientTelemetry {
    pub(crate) fn new(client: &async_nats::Client, info: ConnectInfo) -> Self {
        let ConnectInfo { name, only_server, ignores_discovered_servers, header_case, message_limit } = info;
        // `{prefix}.{id}`, where the id has no dot.
        let mut inbox_prefix = client.new_inbox();
        inbox_prefix.truncate(inbox_prefix.rfind('.').map_or(0, |dot| dot + 1));
        Self {
            core: core(None),
            header_case,
            message_limit,
            name,
            server: Arc::new(ServerInfo::new(client, only_server, ignores_discovered_servers)),
            inbox_prefix: inbox_prefix.into(),
            source: SourceId::new(),
            ledger: Arc::default(),
        }
    }

    /// The same client, reported by another instrumentation.
    pub(crate) fn with_instrumentation(&self, instrumentation: Instrumentation) -> Self {
        Self { core: core(Some(instrumentation)), ..self.clone() }
    }

    /// The same client, writing header names otherwise.
    pub(crate) fn with_header_case(&self, header_case: HeaderCase) -> Self {
        Self { header_case, ..self.clone() }
    }

    /// The same client, whose messages with their contexts are no longer than this.
    pub(crate) fn with_message_limit(&self, bytes: usize) -> Self {
        Self { message_limit: Some(bytes), ..self.clone() }
    }

    /// The moment of a send to this subject; `None` where nothing is to be told. JetStream's API is the client's own business.
    #[inline]
    pub(crate) fn start_send(&self, subject: &str) -> Option<SendStart> {
        let start = self.start_on_message().filter(|_| !is_api(subject))?;
        Some(SendStart { answers: start.answers(subject), start })
    }

    /// The moment of an operation on a message that was received.
    #[inline]
    pub(crate) fn start_on_message(&self) -> Option<OperationStart> {
        let start = self.core.start_operation()?;
        self.ledger.expire(start.at());
        Some(start)
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// The messages of its connection that can be settled.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Starts the span of a send, and writes its context into the headers where the message may carry it.
    #[inline]
    pub(crate) fn send(
        &self,
        start: SendStart,
        name: OperationName,
        subject: Option<&str>,
        headers: &mut Option<HeaderMap>,
        length: impl Into<MessageLength>,
    ) -> ClientSpan {
        let length = length.into();
        if !self.server.accepts_headers() {
            return self.send_without_context(start, name, subject, headers.as_ref(), length.body);
        }
        let SendStart { start, answers } = start;
        let operation = self.operation(name, subject, answers);
        let own = self.message_attributes(message_id(headers.as_ref()), length.body);
        let budget = self.header_budget(length, headers.as_ref().map_or(0, wire_length));
        let mut carrier = headers.take().unwrap_or_default();
        let mut injector = HeaderInjector::new(&mut carrier).case(self.header_case).budget(budget);
        let span = self.core.send(start, &operation, Some(&mut injector), |message| own.set(message));
        // An empty map is no headers to the client too.
        *headers = Some(carrier).filter(|carrier| !carrier.is_empty());
        span
    }

    /// How many bytes more a message may have, which has headers of this length.
    #[inline]
    fn header_budget(&self, length: MessageLength, headers: usize) -> usize {
        let limit = self.server.max_payload().min(self.message_limit.unwrap_or(usize::MAX));
        limit.saturating_sub(length.body + length.added).min(MAX_HEADERS).saturating_sub(headers)
    }

    /// Starts the span of a send whose message is not touched.
    pub(crate) fn send_without_context(
        &self,
        SendStart { start, answers }: SendStart,
        name: OperationName,
        subject: Option<&str>,
        headers: Option<&HeaderMap>,
        body: usize,
    ) -> ClientSpan {
        let operation = self.operation(name, subject, answers);
        let own = self.message_attributes(message_id(headers), body);
        self.core.send(start, &operation, None, |message| own.set(message))
    }

    /// The id and, where it is captured, the body size of a message.
    #[inline]
    fn message_attributes(&self, id: Option<&HeaderValue>, body: impl Into<Option<usize>>) -> MessageAttributes {
        let size = body.into().filter(|_| self.core.captures_sizes()).and_then(|body| i64::try_from(body).ok());
        MessageAttributes { id: id.map(|id| id.as_str().into()), size }
    }

    /// Whether somebody wants to know of single messages that were asked for.
    #[cfg(feature = "jetstream")]
    pub(crate) fn records_polls(&self) -> bool {
        self.core.records_polls()
    }

    /// Starts the span of a message's settlement.
    pub(crate) fn settle(
        &self,
        start: OperationStart,
        name: OperationName,
        target: &SettlementTarget<'_>,
    ) -> ClientSpan {
        let of =
            |description: &MessageDescription| self.operation_at(name, &description.origin, Some(&description.subject));
        let on = |subject: Option<&Subject>| self.operation(name, subject.map(Subject::as_str), false);
        let (operation, settles, description) = match target {
            SettlementTarget::Message(delivered) => {
                (of(&delivered.description), Settles::Message(&delivered.span), Some(&delivered.description))
            }
            SettlementTarget::Remnant(remnant) => (of(&remnant.1), Settles::Context(&remnant.0), Some(&remnant.1)),
            SettlementTarget::Received(span, subject) => (on(Some(subject)), Settles::Message(span), None),
            SettlementTarget::Named(subject) => (on(Some(subject)), Settles::Unknown, None),
            SettlementTarget::Unknown => (on(None), Settles::Unknown, None),
        };
        self.core.settle(start, &operation, settles, |attributes| {
            if let Some(MessageDescription { id, domain, .. }) = description {
                set_text(attributes, attribute::MESSAGING_MESSAGE_ID, id.as_ref());
                set_text(attributes, extension::NATS_DOMAIN, domain.as_ref());
            }
        })
    }

    /// An operation on a subject, as a sender knows it, which may answer a message by it.
    #[inline]
    fn operation(&self, name: OperationName, subject: Option<&str>, answers: bool) -> Arc<Operation> {
        let server = self.server.only_server();
        let key = [subject.unwrap_or_default(), server_key(server), if answers { "answer" } else { "" }];
        self.core.operation(name, &key, || {
            let destination = self.describe(subject, server);
            if answers { destination.reply_address() } else { destination }
        })
    }

    /// An operation on a message with this subject that came from there, or, without a subject, on the place itself.
    #[inline]
    fn operation_at(&self, name: OperationName, origin: &Origin, subject: Option<&str>) -> Arc<Operation> {
        let server = self.server.only_server();
        let key = [subject.unwrap_or_default(), &origin.key, server_key(server)];
        self.core.operation(name, &key, || origin.describe(self, subject, server))
    }

    fn describe(&self, subject: Option<&str>, server: Option<Address<'_>>) -> Destination {
        let mut destination = match subject {
            Some(subject) => Destination::named(subject),
            None => Destination::server(None),
        };
        if subject.is_some_and(|subject| is_temporary(subject, &self.inbox_prefix)) {
            destination = destination.temporary();
        }
        if let Some(name) = &self.name {
            destination = destination.with(attribute::MESSAGING_CLIENT_ID, name.clone());
        }
        match server {
            Some((address, port)) => destination.at(address.clone(), port),
            None => destination,
        }
    }

    /// Links a request's span to the context in its reply.
    pub(crate) fn link_reply(&self, span: &mut ClientSpan, reply: &async_nats::Message) {
        let headers = reply.headers.as_ref().map(HeaderExtractor::new);
        self.core.link_reply(span, headers.as_ref().map(|headers| headers as _), &reply.payload);
    }
}

impl fmt::Debug for ClientTelemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTelemetry").field("core", &self.core).finish_non_exhaustive()
    }
}

/// Where messages come from, as a subscription or a consumer knows it.
#[derive(Debug)]
pub(crate) struct Source {
    telemetry: Arc<ClientTelemetry>,
    id: SourceId,
    origin: Arc<Origin>,
}

/// What a source is, without its connection.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    description: SourceDescription,
    /// The parts of the description that tell two sources apart.
    key: Box<str>,
}

/// What a source adds to the subject of each message.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceDescription {
    /// What was subscribed to.
    pub(crate) subject: Option<Arc<str>>,
    /// The queue group, or the deliver group of a push consumer.
    pub(crate) group: Option<Arc<str>>,
    /// The durable consumer.
    pub(crate) durable: Option<Arc<str>>,
    /// The JetStream stream.
    pub(crate) stream: Option<Arc<str>>,
    /// Messages come because they were asked for.
    pub(crate) pulled: bool,
}

impl Origin {
    fn describe(&self, telemetry: &ClientTelemetry, subject: Option<&str>, server: Option<Address<'_>>) -> Destination {
        let SourceDescription { subject: subscribed, group, durable, stream, pulled: _ } = &self.description;
        let (template, exact) = match subscribed {
            Some(pattern) if has_wildcards(pattern) => (Some(pattern), None),
            exact => (None, exact.as_deref()),
        };
        let mut destination = telemetry.describe(subject.or(exact), server);
        if let Some(template) = template {
            destination = destination.template(template.clone());
        }
        let names = [
            (attribute::MESSAGING_CONSUMER_GROUP_NAME, group),
            (attribute::MESSAGING_DESTINATION_SUBSCRIPTION_NAME, durable),
            (extension::NATS_STREAM_NAME, stream),
        ];
        for (key, value) in names {
            if let Some(value) = value {
                destination = destination.with(key, value.clone());
            }
        }
        destination
    }
}

/// The delivery history of a message, and what its consumer is configured to do with it.
#[derive(Debug, Default)]
pub(crate) struct DeliveryHistory<'a> {
    pub(crate) domain: Option<&'a str>,
    pub(crate) stream_sequence: Option<u64>,
    pub(crate) consumer_sequence: Option<u64>,
    /// Attempt number, counted from 1.
    pub(crate) attempt: Option<u64>,
    /// When the stream stored the message.
    pub(crate) stored: Option<SystemTime>,
    pub(crate) replayed: bool,
    /// The server left its body out.
    pub(crate) headers_only: bool,
    pub(crate) awaits_settlement: bool,
}

impl DeliveryHistory<'_> {
    #[inline]
    fn add_to<'a>(&self, arrival: Arrival<'a>) -> Arrival<'a> {
        let mut arrival = arrival
            .redelivered(self.attempt.is_some_and(|attempt| attempt > 1))
            .replayed(self.replayed)
            .awaits_settlement(self.awaits_settlement);
        if let Some(stored) = self.stored {
            arrival = arrival.sent(stored, Clock::Broker);
        }
        if let Some(attempt) = self.attempt {
            arrival = arrival.attempt(attempt);
        }
        arrival
    }

    #[inline]
    fn set(&self, message: &mut Attributes) {
        let numbers = [
            (extension::NATS_MESSAGE_STREAM_SEQUENCE, self.stream_sequence),
            (extension::NATS_MESSAGE_CONSUMER_SEQUENCE, self.consumer_sequence),
            (extension::NATS_MESSAGE_DELIVERY_COUNT, self.attempt),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                message.set_number(key, number);
            }
        }
    }
}

/// The id and the body size of a message, as far as they are recorded.
struct MessageAttributes {
    id: Option<Arc<str>>,
    size: Option<i64>,
}

impl MessageAttributes {
    #[inline]
    fn set(&self, message: &mut Attributes) {
        set_text(message, attribute::MESSAGING_MESSAGE_ID, self.id.as_ref());
        if let Some(size) = self.size {
            message.set(attribute::MESSAGING_MESSAGE_BODY_SIZE, size);
        }
    }
}

impl Source {
    /// A subscription, which is its own source of messages.
    pub(crate) fn subscription(telemetry: Arc<ClientTelemetry>, description: SourceDescription) -> Self {
        Self::new(telemetry, SourceId::new(), description)
    }

    /// A consumer of a stream: the same source, however often it is asked for.
    #[cfg(feature = "jetstream")]
    pub(crate) fn consumer(telemetry: Arc<ClientTelemetry>, consumer: &str, description: SourceDescription) -> Self {
        let stream = description.stream.as_deref().unwrap_or_default();
        let id = telemetry.source.named(stream).named(consumer);
        Self::new(telemetry, id, description)
    }

    fn new(telemetry: Arc<ClientTelemetry>, id: SourceId, description: SourceDescription) -> Self {
        let SourceDescription { subject, group, durable, stream, pulled: _ } = &description;
        // NATS allows no spaces in any of them.
        let key = [subject, group, durable, stream].map(|part| part.as_deref().unwrap_or_default()).join(" ").into();
        Self { telemetry, id, origin: Arc::new(Origin { description, key }) }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    /// The same source, reported by another instrumentation.
    pub(crate) fn with_instrumentation(&self, instrumentation: Instrumentation) -> Self {
        self.with_telemetry(Arc::new(self.telemetry.with_instrumentation(instrumentation)))
    }

    /// The same source, reported by this.
    pub(crate) fn with_telemetry(&self, telemetry: Arc<ClientTelemetry>) -> Self {
        Self { telemetry, id: self.id, origin: self.origin.clone() }
    }

    #[inline]
    fn operation(&self, name: OperationName, subject: Option<&str>) -> Arc<Operation> {
        self.telemetry.operation_at(name, &self.origin, subject)
    }

    /// Notes that a message is handed to the application. `history` is called for what only its kind has.
    #[inline]
    pub(crate) fn deliver<'a>(
        &self,
        message: &'a async_nats::Message,
        history: impl FnOnce() -> DeliveryHistory<'a>,
    ) -> Option<NewDelivery> {
        // The client's own signals: no responders, heartbeats.
        if message.status.is_some() {
            return None;
        }
        let start = self.telemetry.start_on_message()?;
        let name = if self.origin.description.pulled { PROCESS_FETCHED } else { PROCESS };
        let operation = self.operation(name, Some(&message.subject));
        let mut scanned = ScannedHeaders::default();
        if let Some(headers) = &message.headers {
            scanned.scan(headers);
        }
        let history = history();
        let domain: Option<Arc<str>> = history.domain.map(Arc::from);
        let size = if history.headers_only { scanned.size } else { Some(message.payload.len()) };
        let own = self.telemetry.message_attributes(scanned.id, size);
        let headers = message.headers.as_ref().map(HeaderExtractor::new);
        let arrival =
            Arrival::new(self.id, headers.as_ref().map(|headers| headers as _)).context_headers(&scanned.contexts);
        let mut arrival = history.add_to(arrival.payload(&message.payload)).scheduled(scanned.scheduled);
        if let (Some(reply), None) = (&message.reply, history.stored) {
            arrival = arrival.reply_to(reply);
        }
        let process = self.telemetry.core.deliver(start, operation, arrival, |attributes| {
            own.set(attributes);
            history.set(attributes);
            set_text(attributes, extension::NATS_DOMAIN, domain.as_ref());
        });
        Some(NewDelivery { process, id: own.id, domain })
    }

    /// Starts the span of a receive operation that has brought these messages.
    #[cfg(feature = "jetstream")]
    pub(crate) fn received(&self, start: OperationStart, messages: Batch) -> ClientSpan {
        let operation = self.operation(FETCH, messages.destination().as_deref());
        self.telemetry.core.receive_batch(start, &operation, messages)
    }

    /// Starts the span of a wait for a message that brought none.
    #[cfg(feature = "jetstream")]
    pub(crate) fn failed_poll(&self, start: OperationStart) -> ClientSpan {
        let name = if self.origin.description.pulled { FETCH } else { CONSUME };
        let operation = self.operation(name, None);
        self.telemetry.core.receive(start, &operation, iter::empty(), |_| ())
    }

    /// Tells of the wait for one message.
    #[cfg(feature = "jetstream")]
    pub(crate) fn record_poll(&self, start: OperationStart, subject: &str, message: &MessageTelemetry) {
        let operation = self.operation(FETCH, Some(subject));
        self.telemetry.core.polled(start, &operation, message.process(), |attributes| {
            message.process().own_attributes(attributes);
        });
    }
}

/// A message that was handed to the application just now.
#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
pub(crate) struct NewDelivery {
    process: Arc<ProcessSpan>,
    id: Option<Arc<str>>,
    domain: Option<Arc<str>>,
}

#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
impl NewDelivery {
    /// It can be settled by this subject, for as long as the server waits for that.
    pub(crate) fn make_settleable(
        self,
        reply: Subject,
        ack_wait: Duration,
        subject: &Subject,
        source: &Source,
    ) -> MessageTelemetry {
        let Self { process: span, id, domain } = self;
        let description = MessageDescription { origin: source.origin.clone(), subject: subject.clone(), id, domain };
        let ledger = source.telemetry.ledger.clone();
        let delivered = Arc::new(DeliveredMessage { span, description, reply, ack_wait, ledger });
        delivered.ledger.enter(&delivered);
        MessageTelemetry::Settleable(delivered)
    }
}

impl From<NewDelivery> for MessageTelemetry {
    fn from(NewDelivery { process, .. }: NewDelivery) -> Self {
        Self::ProcessOnly(process)
    }
}

/// The telemetry that a received message carries.
#[derive(Debug, Clone)]
pub(crate) enum MessageTelemetry {
    ProcessOnly(Arc<ProcessSpan>),
    /// It can be settled.
    Settleable(Arc<DeliveredMessage>),
}

impl MessageTelemetry {
    #[inline]
    pub(crate) fn process(&self) -> &Arc<ProcessSpan> {
        match self {
            Self::ProcessOnly(process) => process,
            Self::Settleable(delivered) => &delivered.span,
        }
    }
}

/// The moment of a send, and whether it answers the message that was being processed then.
#[derive(Debug)]
pub(crate) struct SendStart {
    start: OperationStart,
    answers: bool,
}

impl SendStart {
    /// That of an answer.
    #[cfg(feature = "service")]
    pub(crate) fn answer(start: OperationStart) -> Self {
        Self { start, answers: true }
    }

    pub(crate) fn into_operation(self) -> OperationStart {
        self.start
    }
}

/// Part of the key of an operation, because a client may lose its certainty.
#[inline]
fn server_key(server: Option<Address<'_>>) -> &'static str {
    if server.is_some() { "@" } else { "" }
}

fn has_wildcards(subject: &str) -> bool {
    subject.split('.').any(|token| token == "*" || token == ">")
}

/// `$JS.API.…` and `$JS.{domain}.API.…`.
#[inline]
fn is_api(subject: &str) -> bool {
    subject.strip_prefix("$JS.").is_some_and(|rest| {
        rest.starts_with("API.") || rest.split_once('.').is_some_and(|(_, rest)| rest.starts_with("API."))
    })
}

/// Inboxes go away with their client, the subjects of acknowledgements with their message, and those that end in an id, as
/// libraries make the subjects of their replies, with what they were made for.
pub(crate) fn is_temporary(subject: &str, inbox_prefix: &str) -> bool {
    let is_own = || !inbox_prefix.is_empty() && subject.strip_prefix(inbox_prefix).is_some_and(begins_with_id);
    subject.starts_with("_INBOX.") || subject.starts_with("$JS.ACK.") || is_own() || ends_with_id(subject)
}

/// As an inbox goes on after its prefix: a prefix of the user's may be that of other subjects too.
fn begins_with_id(rest: &str) -> bool {
    rest.split('.').next().is_some_and(is_id)
}

/// A word of 22 letters may be one that means something; with a digit it is an id.
fn ends_with_id(subject: &str) -> bool {
    let last = subject.rsplit('.').next();
    last.is_some_and(|last| is_id(last) && last.bytes().any(|byte| byte.is_ascii_digit()))
}

/// As NUID makes them.
fn is_id(token: &str) -> bool {
    token.len() == 22 && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[inline]
fn message_id(headers: Option<&HeaderMap>) -> Option<&HeaderValue> {
    headers?.get_last(NATS_MESSAGE_ID)
}

#[inline]
fn set_text(message: &mut Attributes, key: &'static str, text: Option<&Arc<str>>) {
    if let Some(text) = text {
        message.set(key, text.clone());
    }
}

pub(crate) fn core(instrumentation: Option<Instrumentation>) -> Arc<Telemetry> {
    let telemetry = Telemetry::new(scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")), SYSTEM);
    if let Some(instrumentation) = instrumentation {
        // A new one has none that could be given back.
        let _ = telemetry.instrument(instrumentation);
    }
    Arc::new(telemetry)
}

/// What a publish is: a send, or the settlement of a message.
pub(crate) enum PublishSpan {
    Send(ClientSpan),
    Settlement(Box<SettlementInFlight>),
}

/// Reports what became of a publish whose success says no more than that.
#[inline]
pub(crate) fn report<T, E: ErrorType + fmt::Display>(publishing: Option<PublishSpan>, result: &Result<T, E>) {
    match (publishing, result) {
        (None, _) => (),
        (Some(PublishSpan::Settlement(settlement)), _) => settlement.end(result),
        (Some(PublishSpan::Send(span)), Ok(_)) => span.succeed(),
        (Some(PublishSpan::Send(span)), Err(error)) => span.fail(error.error_type(), error),
    }
}
