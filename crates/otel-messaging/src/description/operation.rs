//! What an operation is called and what it is about: names and attributes, put together once for each destination.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    net::IpAddr,
    ptr,
    sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock},
    time::SystemTime,
};

use opentelemetry::{
    Key, KeyValue, Value,
    trace::{Link, SpanBuilder, SpanKind},
};

use crate::{
    catch_panic::catch_panic,
    description::semconv::attribute,
    recording::{metrics::Series, pipeline::Pipeline},
};

/// The name of an operation in its client's words, with the type the convention gives it.
///
/// Adapters make these as constants:
///
/// ```
/// use otel_messaging::adapter::OperationName;
///
/// const PUBLISH: OperationName = OperationName::send("publish");
/// const ACK: OperationName = OperationName::settle("ack");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationName {
    pub(crate) name: &'static str,
    pub(crate) kind: OperationType,
    /// What brought the messages that are processed.
    brought_by: &'static str,
}

/// `messaging.operation.type`: what an operation does, whatever its client calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationType {
    /// Makes a message that is sent later.
    Create,
    /// Hands a message to the broker.
    Send,
    /// Asks the broker for messages.
    Receive,
    /// Works on messages that arrived.
    Process,
    /// Tells the broker what became of a message.
    Settle,
}

impl OperationName {
    /// Makes a message that is sent later.
    pub const fn create(name: &'static str) -> Self {
        Self { name, kind: OperationType::Create, brought_by: name }
    }

    /// Hands a message to the broker.
    pub const fn send(name: &'static str) -> Self {
        Self { name, kind: OperationType::Send, brought_by: name }
    }

    /// Asks the broker for messages.
    pub const fn receive(name: &'static str) -> Self {
        Self { name, kind: OperationType::Receive, brought_by: name }
    }

    /// Works on messages that the broker pushed. Those that were asked for: [`of`](Self::of).
    pub const fn process(name: &'static str) -> Self {
        Self { name, kind: OperationType::Process, brought_by: name }
    }

    /// Works on messages that this operation brought: they are counted under its name.
    pub const fn of(self, receive: Self) -> Self {
        Self { brought_by: receive.name, ..self }
    }

    pub(crate) const fn brought_by(self) -> &'static str {
        self.brought_by
    }

    /// Tells the broker what became of a message.
    pub const fn settle(name: &'static str) -> Self {
        Self { name, kind: OperationType::Settle, brought_by: name }
    }
}

impl OperationType {
    /// The convention's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }

    /// Whether its spans tell the peer in the convention: those that ask a server for something.
    const fn has_peer(self) -> bool {
        match self {
            Self::Send | Self::Receive | Self::Settle => true,
            Self::Create | Self::Process => false,
        }
    }

    /// The span kind; a send whose context does not travel in the message is a CLIENT instead.
    pub(crate) const fn span_kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Send => SpanKind::Producer,
            Self::Receive | Self::Settle => SpanKind::Client,
            Self::Process => SpanKind::Consumer,
        }
    }
}

/// Attributes of one span, with room for those that come late.
///
/// An adapter sets each key once: nothing looks for an earlier value. What a user's hook sets replaces it.
#[derive(Debug, Clone, Default)]
pub struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    /// Adds one attribute.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    /// Adds a number; one that does not fit the type that attributes have for numbers is left out.
    pub fn set_number(&mut self, key: impl Into<Key>, number: impl TryInto<i64>) {
        if let Ok(number) = number.try_into() {
            self.set(key, number);
        }
    }

    /// Makes those from `at` on replace earlier ones of the same key.
    fn replace_from(&mut self, mut at: usize) {
        while let Some(added) = self.0.get(at) {
            match self.0[..at].iter().position(|earlier| earlier.key == added.key) {
                Some(earlier) => {
                    self.0.swap(earlier, at);
                    self.0.remove(at);
                }
                None => at += 1,
            }
        }
    }
}

/// Where a message goes to or comes from, as an adapter describes it.
///
/// Source: "Span name" and "Messaging attributes" of the messaging spans convention.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    name: Option<Arc<str>>,
    template: Option<Arc<str>>,
    temporary: bool,
    anonymous: bool,
    reply_address: bool,
    server: Option<(Arc<str>, u16)>,
    common_name: Option<CommonName>,
    attributes: Vec<(&'static str, Value)>,
}

/// The name that several destinations have in common, made of what their keys have in common.
type CommonName = fn(&[&str]) -> String;

impl Destination {
    /// A destination with this name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// No destination: an operation on the server itself. The span is named after the address, where that is known.
    pub fn server(address: Option<(&str, u16)>) -> Self {
        match address {
            Some((host, port)) => Self::default().at(host, port),
            None => Self::default(),
        }
    }

    /// The server that it is on: `server.address` and `server.port`. Where the host is an address of the network, it is
    /// the peer's too (`network.peer.address` and `network.peer.port`), on spans that have such attributes in the
    /// convention: not on create and process spans. Behind a host's name there may be several.
    pub fn at(mut self, host: impl Into<Arc<str>>, port: u16) -> Self {
        self.server = Some((host.into(), port));
        self
    }

    /// The pattern that the name was made from; it replaces the name in span names.
    pub fn template(mut self, template: impl Into<Arc<str>>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// The destination goes away with its client: its name stays out of span names.
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// The destination was named by the broker: its name stays out of span names.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// The destination is where a message that is being processed is [answered](crate::adapter::OperationStart::answers): it is
    /// [`temporary`](Self::temporary), unless the user's
    /// [`destination_template`](crate::InstrumentationBuilder::destination_template) names it. Its
    /// [operation](crate::adapter::Telemetry::operation) has another key than one on the same place that answers nothing.
    pub fn reply_address(mut self) -> Self {
        self.reply_address = true;
        self
    }

    /// Names a batch whose messages are of several destinations. `name` is given the key of the
    /// [operation](crate::adapter::Telemetry::operation), with empty strings in place of the parts that differ. A batch has no
    /// destination name where `name` returns an empty string, or is not set.
    pub fn common_name(mut self, name: fn(&[&str]) -> String) -> Self {
        self.common_name = Some(name);
        self
    }

    /// One more attribute that is the same for every message of this destination.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }
}

/// One operation on one destination: the span's name and the attributes that no message changes.
///
/// Made and kept by [`Telemetry::operation`](crate::adapter::Telemetry::operation).
pub struct Operation {
    /// What its spans are made with: a message holds the operation, and needs no more.
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) name: OperationName,
    pub(crate) span_name: Cow<'static, str>,
    // Most attributes are text that is kept for the life of the process, or numbers: these are written at once, where a
    // value that could be anything is cloned by a call, to the stack first.
    texts: Box<[(&'static str, &'static str)]>,
    numbers: Box<[(&'static str, i64)]>,
    rest: Box<[KeyValue]>,
    key: Box<[Box<str>]>,
    system: &'static str,
    destination: Option<Arc<str>>,
    template: Option<Arc<str>>,
    server: Option<(Arc<str>, u16)>,
    common_name: Option<CommonName>,
    is_stable: bool,
    pub(crate) series: Series,
    /// A filter wants nothing told of it.
    pub(crate) filtered_out: bool,
}

/// What filters and hooks see.
impl Operation {
    /// `messaging.system`.
    #[must_use]
    pub fn system(&self) -> &'static str {
        self.system
    }

    /// The operation in its client's words: `messaging.operation.name`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.name
    }

    /// The operation in the convention's words: `messaging.operation.type`.
    #[must_use]
    pub fn kind(&self) -> OperationType {
        self.name.kind
    }

    /// The destination's name, if it has one.
    #[must_use]
    pub fn destination(&self) -> Option<&str> {
        self.destination.as_deref()
    }

    /// The pattern that the destination's name was made from, if there is one.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("span_name", &self.span_name)
            .field("texts", &self.texts)
            .field("rest", &self.rest)
            .finish()
    }
}

/// How many attributes a message adds to its operation's, so that one allocation holds all of them.
const SPARE: usize = 4;

impl Operation {
    fn new(
        pipeline: Arc<Pipeline>,
        system: &'static str,
        name: OperationName,
        key: &[&str],
        destination: Destination,
        Admission { is_shown, is_cached }: Admission,
    ) -> Self {
        let Destination {
            name: destination,
            template,
            temporary,
            anonymous,
            reply_address: _,
            server,
            common_name,
            attributes: mut own,
        } = destination;
        let span_name = match span_name(name, template.as_ref().or(destination.as_ref()), is_shown, server.as_ref()) {
            Some(span_name) if is_cached => intern(&span_name),
            Some(span_name) => span_name.into(),
            None => name.name.into(),
        };
        let mut attributes: Vec<(&'static str, Value)> = vec![
            (attribute::MESSAGING_SYSTEM, system.into()),
            (attribute::MESSAGING_OPERATION_NAME, name.name.into()),
            (attribute::MESSAGING_OPERATION_TYPE, name.kind.as_str().into()),
        ];
        if let Some((host, port)) = &server {
            own.push((attribute::SERVER_ADDRESS, host.clone().into()));
            own.push((attribute::SERVER_PORT, i64::from(*port).into()));
        }
        let series = Series::new(system, name, (destination.as_ref(), template.as_ref(), is_shown), &own);
        let series = if is_cached { series.kept() } else { series };
        attributes.extend(destination.clone().map(|name| (attribute::MESSAGING_DESTINATION_NAME, name.into())));
        attributes
            .extend(template.clone().map(|template| (attribute::MESSAGING_DESTINATION_TEMPLATE, template.into())));
        // Settle spans have no such attributes in the convention.
        if name.kind != OperationType::Settle {
            attributes.extend(temporary.then_some((attribute::MESSAGING_DESTINATION_TEMPORARY, true.into())));
            attributes.extend(anonymous.then_some((attribute::MESSAGING_DESTINATION_ANONYMOUS, true.into())));
        }
        attributes.extend(own);
        if let Some((host, port)) = server.as_ref().filter(|(host, _)| name.kind.has_peer() && is_address(host)) {
            attributes.push((attribute::NETWORK_PEER_ADDRESS, host.clone().into()));
            attributes.push((attribute::NETWORK_PEER_PORT, i64::from(*port).into()));
        }
        let (mut texts, mut numbers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in attributes {
            match &value {
                Value::String(text) if is_cached => match intern(text.as_str()) {
                    Cow::Borrowed(text) => texts.push((key, text)),
                    Cow::Owned(text) => rest.push(KeyValue::new(key, Arc::<str>::from(text))),
                },
                Value::I64(number) => numbers.push((key, *number)),
                _ => rest.push(KeyValue::new(key, value)),
            }
        }
        let mut operation = Self {
            pipeline,
            name,
            span_name,
            texts: texts.into(),
            numbers: numbers.into(),
            rest: rest.into(),
            key: key.iter().map(|&part| part.into()).collect(),
            system,
            destination,
            template,
            server,
            common_name,
            is_stable: !temporary && !anonymous,
            series,
            filtered_out: false,
        };
        operation.filtered_out = operation.pipeline.settings().filter.as_ref().is_some_and(|wanted| {
            // Where the filter panics, the operation is told of: that is the usual.
            catch_panic(|| wanted(&operation)) == Some(false)
        });
        operation
    }

    /// The same for messages of this and of other destinations.
    pub(crate) fn of_batch(self: &Arc<Self>, others: &[&Arc<Self>]) -> Arc<Self> {
        if others.iter().all(|other| self.shows_the_same(other)) {
            return self.clone();
        }
        let one_name = self.same(others, |one| one.destination.as_ref()).flatten();
        let called = if one_name.is_none() { self.common_name_with(others) } else { None };
        let template = self.same(others, |one| one.template.as_ref()).flatten();
        let server = self.same(others, |one| one.server.as_ref()).flatten();
        let is_stable = self.is_stable && others.iter().all(|one| one.is_stable);
        let destination = one_name.or(called.as_ref());
        let shown = template.or(destination);
        let is_shown = is_stable && shown.is_none_or(|shown| self.pipeline.settings().bound.shown.admit(shown));
        let same_name = self.same(others, |one| &one.span_name).cloned();
        let others_series: Vec<_> = others.iter().map(|one| &one.series).collect();
        Arc::new(Self {
            pipeline: self.pipeline.clone(),
            name: self.name,
            span_name: same_name.unwrap_or_else(|| match span_name(self.name, shown, is_shown, server) {
                Some(name) => name.into(),
                None => self.name.name.into(),
            }),
            texts: Box::default(),
            numbers: Box::default(),
            rest: Box::default(),
            key: Box::default(),
            system: self.system,
            destination: destination.cloned(),
            template: template.cloned(),
            server: server.cloned(),
            common_name: None,
            is_stable,
            series: self.series.common(&others_series, called.as_ref().filter(|_| is_shown && template.is_none())),
            filtered_out: self.filtered_out,
        })
    }

    fn shows_the_same(&self, other: &Self) -> bool {
        ptr::eq(self, other)
            || (self.span_name == other.span_name
                && self.destination == other.destination
                && self.series.duration == other.series.duration)
    }

    /// A part of it, if it is the same for all.
    fn same<'a, T: PartialEq>(&'a self, others: &[&'a Arc<Self>], part: impl Fn(&'a Self) -> T) -> Option<T> {
        let own = part(self);
        others.iter().all(|other| part(other) == own).then_some(own)
    }

    fn common_name_with(&self, others: &[&Arc<Self>]) -> Option<Arc<str>> {
        let name_of = self.common_name?;
        let parts = self.key.iter().enumerate();
        let common: Vec<_> = parts
            .map(|(at, part)| if others.iter().all(|one| one.key.get(at) == Some(part)) { part } else { "" })
            .collect();
        Some(name_of(&common)).filter(|name| !name.is_empty()).map(Arc::from)
    }

    /// The operation's attributes, those of one message, and what the user's hook makes of them.
    #[inline(always)]
    pub(crate) fn attributes(&self, own: impl FnOnce(&mut Attributes)) -> Attributes {
        let mut all = self.fixed_attributes();
        own(&mut all);
        if let Some(hook) = &self.pipeline.settings().hook {
            let before = all.0.len();
            catch_panic(|| hook(self, &mut all));
            all.replace_from(before);
        }
        all
    }

    /// The operation's attributes alone.
    #[inline(always)]
    pub(crate) fn fixed_attributes(&self) -> Attributes {
        let mut fixed = Attributes(Vec::with_capacity(self.fixed() + SPARE));
        fixed.0.extend(self.texts.iter().map(|&(key, text)| KeyValue::new(key, text)));
        fixed.0.extend(self.numbers.iter().map(|&(key, number)| KeyValue::new(key, number)));
        fixed.0.extend_from_slice(&self.rest);
        fixed
    }

    /// What one of its spans is started with.
    #[inline(always)]
    pub(crate) fn span(
        &self,
        kind: SpanKind,
        at: SystemTime,
        attributes: Attributes,
        links: Option<Vec<Link>>,
    ) -> SpanBuilder {
        SpanBuilder {
            name: self.span_name.clone(),
            span_kind: Some(kind),
            start_time: Some(at),
            attributes: Some(attributes.0),
            links,
            ..SpanBuilder::default()
        }
    }

    /// How many attributes no message changes; they come first.
    #[inline]
    pub(crate) fn fixed(&self) -> usize {
        self.texts.len() + self.numbers.len() + self.rest.len()
    }

    /// The destination's name as an attribute, if it has one.
    pub(crate) fn destination_attribute(&self) -> Option<KeyValue> {
        Some(KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, self.destination.clone()?))
    }

    #[inline]
    fn is(&self, name: OperationName, key: &[&str]) -> bool {
        self.name == name && self.key.len() == key.len() && self.key.iter().zip(key).all(|(own, part)| &**own == *part)
    }
}

/// `{operation} {destination}`; the server stands for a destination where there is none.
fn span_name(
    name: OperationName,
    destination: Option<&Arc<str>>,
    is_shown: bool,
    server: Option<&(Arc<str>, u16)>,
) -> Option<String> {
    match (destination, server) {
        (Some(destination), _) => is_shown.then(|| format!("{} {destination}", name.name)),
        (None, Some((host, port))) => Some(format!("{} {host}:{port}", name.name)),
        (None, None) => None,
    }
}

/// What the bound says of a destination.
#[derive(Debug, Clone, Copy)]
struct Admission {
    /// Its name, or template, may appear in span names.
    is_shown: bool,
    /// Its operations are cached.
    is_cached: bool,
}

/// How many operations one client keeps: names are bounded, but what else tells operations apart, as consumer groups do,
/// is not.
const KEPT: usize = 10_000;

/// How many strings are kept for the life of the process.
const INTERNED: usize = 10_000;

/// The one copy of a string that lives as long as the process, so that a span takes it without allocating or counting
/// references. Beyond [`INTERNED`] it is an ordinary copy.
fn intern(text: &str) -> Cow<'static, str> {
    static STRINGS: LazyLock<RwLock<HashSet<&'static str>>> = LazyLock::new(RwLock::default);
    if let Some(&found) = STRINGS.read().unwrap_or_else(PoisonError::into_inner).get(text) {
        return Cow::Borrowed(found);
    }
    let mut strings = STRINGS.write().unwrap_or_else(PoisonError::into_inner);
    match strings.get(text) {
        Some(&found) => Cow::Borrowed(found),
        None if strings.len() >= INTERNED => Cow::Owned(text.to_owned()),
        None => {
            let kept: &'static str = Box::leak(text.into());
            strings.insert(kept);
            Cow::Borrowed(kept)
        }
    }
}

/// Whether a program made up this name for one use. Destinations named so are anonymous without being told; adapters ask
/// where such a name is only a part of the destination's.
pub fn is_uuid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// The longest name that may be kept and shown, in bytes. Those of Kafka and AMQP are shorter.
const LONGEST: usize = 1_024;

/// Which destination names may be shown and kept: the first so many that were seen.
///
/// It belongs to the [`Instrumentation`](crate::Instrumentation), so that all clients that share one share the bound.
#[derive(Debug)]
pub(crate) struct DestinationLimit {
    /// In span names and metrics: names, and templates instead of the names behind them.
    shown: NameSet,
    /// The names behind templates that are kept for the next message, and shown nowhere: however many they are, they take
    /// no place from those that are shown.
    behind_templates: NameSet,
}

impl DestinationLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { shown: NameSet::new(limit), behind_templates: NameSet::new(limit) }
    }

    fn admits(&self, destination: &Destination) -> Admission {
        let is_stable = !destination.temporary && !destination.anonymous;
        let (name, template) = (destination.name.as_deref(), destination.template.as_deref());
        let is_shown = is_stable && template.or(name).is_none_or(|shown| self.shown.admit(shown));
        let behind = template.and(name);
        Admission { is_shown, is_cached: is_shown && behind.is_none_or(|name| self.behind_templates.admit(name)) }
    }
}

/// The first so many names that were seen.
#[derive(Debug)]
struct NameSet {
    limit: usize,
    admitted: RwLock<HashSet<Box<str>>>,
}

impl NameSet {
    fn new(limit: usize) -> Self {
        Self { limit, admitted: RwLock::default() }
    }

    fn admit(&self, name: &str) -> bool {
        if name.len() > LONGEST {
            return false;
        }
        {
            let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
            if admitted.contains(name) {
                return true;
            }
            if admitted.len() >= self.limit {
                return false;
            }
        }
        let mut admitted = self.admitted.write().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= self.limit {
            return admitted.contains(name);
        }
        admitted.insert(name.into());
        true
    }
}

/// The operations of one client, by what its adapter looks them up with.
#[derive(Default)]
pub(crate) struct Operations {
    // The first of each type, found without a lock: most clients have no other.
    first: [OnceLock<Arc<Operation>>; 5],
    // The hash of name and key, then a scan of the very few that share it: a map keyed by several borrowed strings
    // would need an owned key for each look-up.
    cached: RwLock<HashMap<u64, Vec<Arc<Operation>>, BuildHasherDefault<Hashed>>>,
}

/// The keys are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// FNV-1a of the key: names are short, and the number of those kept is bounded, so nobody can flood a bucket.
fn hash(name: OperationName, key: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ name.name.len() as u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in key {
        part.bytes().for_each(&mut add);
        add(0xff);
    }
    hash
}

impl Operations {
    #[inline]
    pub(crate) fn get(
        &self,
        pipeline: &Arc<Pipeline>,
        system: &'static str,
        name: OperationName,
        key: &[&str],
        describe: impl FnOnce() -> Destination,
    ) -> Arc<Operation> {
        let first = &self.first[name.kind as usize];
        if let Some(first) = first.get().filter(|first| first.is(name, key)) {
            return first.clone();
        }
        let settings = pipeline.settings();
        let hash = hash(name, key);
        {
            let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = cached.get(&hash).and_then(|same| same.iter().find(|it| it.is(name, key))) {
                return found.clone();
            }
        }
        let mut destination = describe();
        if destination.name.as_deref().is_some_and(is_uuid) {
            destination.anonymous = true;
        }
        if let (Some(template_of), Some(name), None) = (&settings.template, &destination.name, &destination.template) {
            destination.template = catch_panic(|| template_of(name)).flatten().map(Arc::from);
        }
        destination.temporary |= destination.reply_address && destination.template.is_none();
        let admitted = settings.bound.admits(&destination);
        let operation = Arc::new(Operation::new(pipeline.clone(), system, name, key, destination, admitted));
        if admitted.is_cached {
            let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
            if cached.len() >= KEPT {
                return operation;
            }
            let same = cached.entry(hash).or_default();
            if !same.iter().any(|it| it.is(name, key)) {
                same.push(operation.clone());
            }
            let _ = first.set(operation.clone());
        }
        operation
    }
}
