//! What an adapter holds for each client, and the operations it describes with it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use opentelemetry::{
    Context, InstrumentationScope,
    propagation::{Extractor, Injector},
    trace::{Link, Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt},
};

use crate::{
    client_span::ClientSpan,
    instrumentation::{CarriedContext, Instrumentation},
    live::{Live, MayLook},
    operation::{Attributes, Destination, Operation, OperationName, Operations},
    process_span::ProcessSpan,
    processed::{Identity, processed},
};

/// All the telemetry of one client: an adapter makes one when the client is built and describes every operation to it.
///
/// See the [module documentation](crate::adapter) for the walk of one message.
pub struct Telemetry {
    scope: InstrumentationScope,
    system: &'static str,
    given: OnceLock<Used>,
    shared: OnceLock<Used>,
}

/// An instrumentation in use, and what was put together for it.
struct Used {
    live: Arc<Live>,
    operations: Operations,
}

impl Used {
    fn new(scope: &InstrumentationScope, instrumentation: Instrumentation) -> Self {
        Self { live: Arc::new(Live::new(scope.clone(), instrumentation)), operations: Operations::default() }
    }
}

/// The moment an operation was called: when, and inside which context. Proof that there is something to do.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) at: SystemTime,
    pub(crate) parent: Context,
    pub(crate) may_look: MayLook,
    processed: Option<Identity>,
}

/// The headers of a message about to be sent: written to and, for a context that it carries already, read from.
///
/// `set` with an empty value removes the entry: the W3C propagator writes an empty `tracestate` for "none".
pub trait Headers: Injector + Extractor {
    /// Whether the message has no headers yet; nothing is looked for then.
    fn is_empty(&self) -> bool;
}

/// What injecting a context into a message would add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injected {
    /// How many headers.
    pub headers: usize,
    /// The length of their names and values together, in bytes.
    pub bytes: usize,
}

/// Which message, or messages, a settle operation is about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Settles<'a> {
    /// One that is at hand: the settle span is a child of its process span, and the outcome is recorded there too.
    Message(&'a Arc<ProcessSpan>),
    /// One that is known only by the context of its process span.
    Context(&'a SpanContext),
    /// Nothing is known of it, or it is about many: the settle span is a child of what is current.
    Unknown,
}

impl Telemetry {
    /// For a client of this messaging system. `scope` names the adapter: see [`adapter::scope`](crate::adapter::scope).
    pub fn new(scope: InstrumentationScope, system: &'static str) -> Self {
        Self { scope, system, given: OnceLock::new(), shared: OnceLock::new() }
    }

    /// Uses this instrumentation from now on instead of the default one. The first one given stays.
    ///
    /// # Errors
    ///
    /// Gives the instrumentation back when there was one already.
    pub fn instrument(&self, instrumentation: Instrumentation) -> Result<(), Instrumentation> {
        self.given.set(Used::new(&self.scope, instrumentation.clone())).map_err(|_| instrumentation)
    }

    fn used(&self) -> &Used {
        self.given
            .get()
            .unwrap_or_else(|| self.shared.get_or_init(|| Used::new(&self.scope, Instrumentation::default())))
    }

    fn live(&self) -> &Live {
        &self.used().live
    }

    /// The first thing every operation asks, in the synchronous part of its call.
    ///
    /// `None` means that the client's own call is all there is to do: telemetry is suppressed, or neither a real tracer
    /// nor a propagator is installed. It costs a clock reading then, and no allocation.
    #[inline]
    pub fn call(&self) -> Option<Call> {
        let may_look = self.live().enter()?;
        let parent = Context::current();
        let processed = processed(&parent);
        Some(Call { at: SystemTime::now(), parent, may_look, processed })
    }

    /// The operation of this name on the destination that `key` stands for. `describe` is asked once, as long as the
    /// destination's name is within the bound and lasting.
    pub fn operation(
        &self,
        name: OperationName,
        key: &[&str],
        describe: impl FnOnce() -> Destination,
    ) -> Arc<Operation> {
        let Used { live, operations } = self.used();
        operations.get(live, self.system, name, key, describe)
    }

    /// Starts the span of a send and writes its context into the message's headers.
    ///
    /// `headers` is `None` where the message cannot or must not carry a context. A context that it carries already is
    /// linked, and kept or replaced by the rule of [`CarriedContext`]. `attributes` adds what this message alone has.
    pub fn send(
        &self,
        call: Call,
        operation: &Operation,
        mut headers: Option<&mut dyn Headers>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let live = self.live();
        let settings = live.settings();
        let carried = match &headers {
            Some(headers) if !headers.is_empty() => self.carried(&call, &**headers),
            _ => None,
        };
        if let Some((_, Keep(true))) = carried {
            headers = None;
        }
        // The kind says whether the message carries this span's context, and has to be known before there is a span.
        let writes = headers.is_some() && live.propagates();
        let span = live.start(call.may_look, &call.parent, || {
            let kind = if writes { SpanKind::Producer } else { SpanKind::Client };
            let links = carried.as_ref().map(|(context, _)| context.clone());
            builder(operation, kind, call.at, attributes, links.into_iter())
        });
        if let (true, Some(headers)) = (writes, headers) {
            let own = span.as_ref().map(|span| call.parent.with_remote_span_context(span.span_context().clone()));
            let context = own.as_ref().unwrap_or(&call.parent);
            settings.propagator.with(|propagator| {
                if carried.is_some() {
                    // What is replaced is replaced whole: a tracestate must not outlive its traceparent.
                    propagator.fields().for_each(|field| headers.set(field, String::new()));
                }
                propagator.inject_context(context, headers);
            });
        }
        ClientSpan::new(span)
    }

    /// The context that a message already carries, and whether it stays.
    fn carried(&self, call: &Call, headers: &dyn Headers) -> Option<(SpanContext, Keep)> {
        let live = self.live();
        let (_, carried) = live.extract(Context::new(), headers);
        if !carried.is_valid() {
            return None;
        }
        let keep = match live.settings().carried_context {
            CarriedContext::Keep => true,
            CarriedContext::Replace => false,
            CarriedContext::Auto => {
                let carried = Identity::of(&carried);
                carried != Identity::of(call.parent.span().span_context()) && Some(carried) != call.processed
            }
        };
        Some((carried, Keep(keep)))
    }

    /// What [`send`](Self::send) would write into the headers of a message that carries no context yet, found by writing
    /// it elsewhere: for adapters whose broker limits a message's size, near that limit.
    pub fn injected(&self, call: &Call) -> Injected {
        struct Count(Injected);
        impl Injector for Count {
            fn set(&mut self, key: &str, value: String) {
                if !value.is_empty() {
                    self.0.headers += 1;
                    self.0.bytes += key.len() + value.len();
                }
            }
        }
        let parent = call.parent.span().span_context().clone();
        // All ids are of one length, so any stand in for those of a span that does not exist yet.
        let context = call.parent.with_remote_span_context(SpanContext::new(
            opentelemetry::TraceId::from(u128::MAX),
            opentelemetry::SpanId::from(u64::MAX),
            parent.trace_flags(),
            true,
            parent.trace_state().clone(),
        ));
        let mut count = Count(Injected::default());
        self.live().settings().propagator.with(|propagator| propagator.inject_context(&context, &mut count));
        count.0
    }

    /// Starts the span of a receive operation that has had its answer: it began when it was called, and links the
    /// messages that came.
    pub fn receive<'a>(
        &self,
        call: Call,
        operation: &Operation,
        messages: impl Iterator<Item = &'a Arc<ProcessSpan>>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let creations = messages.filter_map(|message| message.creation().cloned());
        self.receive_linked(call, operation, creations, attributes)
    }

    /// The same by the contexts that the senders left in the messages, where the messages themselves may be gone before
    /// the operation is: see [`ProcessSpan::creation`].
    pub fn receive_linked(
        &self,
        call: Call,
        operation: &Operation,
        creations: impl Iterator<Item = SpanContext>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let live = self.live();
        ClientSpan::new(live.start(call.may_look, &call.parent, || {
            let links = creations.take(live.settings().max_links);
            builder(operation, SpanKind::Client, call.at, attributes, links)
        }))
    }

    /// Links a span to the context that the answer to its message carries, if it carries one: a reply never moves the
    /// caller to another trace.
    pub fn link_reply(&self, span: &mut ClientSpan, headers: &dyn Extractor) {
        if !span.is_recording() {
            return;
        }
        let (_, reply) = self.live().extract(Context::new(), headers);
        if reply.is_valid() {
            span.link(reply);
        }
    }

    /// Notes that a message is handed to the application. Its process span is made when it is first needed.
    ///
    /// `attributes` adds what this message alone has; `headers` is `None` for a message without any.
    pub fn hand_out(
        &self,
        call: Call,
        operation: Arc<Operation>,
        headers: Option<&dyn Extractor>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Arc<ProcessSpan> {
        let attributes = operation.attributes(attributes);
        let span = Arc::new(ProcessSpan::new(call, operation, headers, attributes));
        if let Some(hand) = &span.hand {
            hand.take(&span);
        }
        span
    }

    /// Starts the span of a settle operation.
    ///
    /// `links` are further messages that it settles, by the contexts of their process spans.
    pub fn settle(
        &self,
        call: Call,
        operation: &Operation,
        settles: Settles<'_>,
        links: impl Iterator<Item = SpanContext>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let live = self.live();
        let parent = match settles {
            Settles::Message(message) => message.context().clone(),
            Settles::Context(context) => call.parent.with_remote_span_context(context.clone()),
            Settles::Unknown => call.parent,
        };
        let span = ClientSpan::new(live.start(call.may_look, &parent, || {
            let links = links.take(live.settings().max_links);
            builder(operation, SpanKind::Client, call.at, attributes, links)
        }));
        match settles {
            Settles::Message(message) => span.of(message.clone()),
            _ => span,
        }
    }
}

/// Whether a carried context stays in the message.
#[derive(Debug, Clone, Copy)]
struct Keep(bool);

fn builder(
    operation: &Operation,
    kind: SpanKind,
    at: SystemTime,
    attributes: impl FnOnce(&mut Attributes),
    links: impl Iterator<Item = SpanContext>,
) -> SpanBuilder {
    let mut builder = SpanBuilder::from_name(operation.span_name.clone());
    builder.span_kind = Some(kind);
    builder.start_time = Some(at);
    builder.attributes = Some(operation.attributes(attributes).0);
    let links: Vec<Link> = links.map(Link::with_context).collect();
    if !links.is_empty() {
        builder.links = Some(links);
    }
    builder
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("scope", &self.scope.name())
            .field("system", &self.system)
            .finish_non_exhaustive()
    }
}
