//! What a whole trace is: the hops of each kind of order as a table, and what must hold of every span.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    order::Card,
    receiver::{Span, Status},
    telemetry::FROM_BAGGAGE,
};

/// The how-manieth delivery of its message a consumer span is, where something counts.
const ATTEMPT: &str = "otel_messaging.delivery.attempt";
/// Whether the broker delivered it before.
const REDELIVERED: &str = "otel_messaging.delivery.redelivered";
/// How a message was settled.
pub(crate) const OUTCOME: &str = "otel_messaging.settlement.outcome";
/// How many messages a batch has.
pub(crate) const BATCH: &str = "messaging.batch.message_count";

/// One span that an order's trace must have: its place in the tree is given by its depth, as in the waterfall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop {
    depth: usize,
    pub(crate) service: &'static str,
    pub(crate) kind: SpanKind,
    pub(crate) name: &'static str,
    relation: Relation,
    pub(crate) failed: bool,
    again: bool,
    delivery: &'static str,
}

/// How a hop hangs on the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Child, in the same trace.
    Child,
    /// In a trace of its own, which links it.
    Link,
}

const fn hop(depth: usize, service: &'static str, kind: SpanKind, name: &'static str) -> Hop {
    Hop { depth, service, kind, name, relation: Relation::Child, failed: false, again: false, delivery: "" }
}

impl Hop {
    const fn failed(mut self) -> Self {
        self.failed = true;
        self
    }

    /// The message is sent again: it links the attempt that failed, and what that attempt's message links.
    const fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// What its message has behind it, and how it was settled; see [`delivery`].
    const fn delivered(mut self, delivery: &'static str) -> Self {
        self.delivery = delivery;
        self
    }

    const fn by_link(mut self) -> Self {
        self.relation = Relation::Link;
        self
    }

    /// Whether the order is one of a batch here, which stands in a trace of its own.
    pub(crate) fn is_batched(&self) -> bool {
        self.relation == Relation::Link
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.service, self.name, self.kind)?;
        f.write_str(if self.failed { ", failed" } else { "" })?;
        f.write_str(if self.again { ", sent again" } else { "" })?;
        if !self.delivery.is_empty() {
            write!(f, ", {}", self.delivery)?;
        }
        f.write_str(if self.relation == Relation::Link { ", linking it" } else { "" })
    }
}

use SpanKind::{Client, Consumer, Internal, Producer, Server};

/// The hops of an order that is paid at once.
const PAID: &[Hop] = &[
    hop(0, "shopper", Internal, "place order"),
    hop(1, "shopper", Client, "POST"),
    hop(2, "orders", Server, "POST /orders"),
    hop(3, "orders", Producer, "send orders"),
    hop(4, "analytics", Consumer, "process orders").by_link(),
    hop(4, "payment", Consumer, "process orders").delivered("commit"),
    hop(5, "payment", Internal, "charge card"),
    hop(5, "payment", Producer, "publish orders:paid"),
    hop(6, "shipping", Consumer, "process orders:paid:shipping").delivered("ack"),
    hop(7, "shipping", Producer, "request inventory.reserve"),
    hop(8, "inventory", Consumer, "process inventory.reserve"),
    hop(9, "inventory", Internal, "reserve stock"),
    hop(9, "inventory", Producer, "publish"),
    hop(7, "shipping", Producer, "publish notifications.order"),
    hop(8, "notification", Consumer, "process notifications.order").delivered("#1 ack"),
    hop(9, "notification", Internal, "send mail"),
    hop(9, "notification", Client, "ack notifications.order"),
    hop(7, "shipping", Client, "ack orders:paid:shipping"),
    hop(5, "payment", Client, "commit orders"),
];

/// The same with a bank that takes its time.
const SLOW: &[Hop] = &[
    hop(0, "shopper", Internal, "place order"),
    hop(1, "shopper", Client, "POST"),
    hop(2, "orders", Server, "POST /orders"),
    hop(3, "orders", Producer, "send orders"),
    hop(4, "analytics", Consumer, "process orders").by_link(),
    hop(4, "payment", Consumer, "process orders").delivered("commit"),
    hop(5, "payment", Internal, "charge card"),
    hop(6, "payment", Internal, "fraud check"),
    hop(5, "payment", Producer, "publish orders:paid"),
    hop(6, "shipping", Consumer, "process orders:paid:shipping").delivered("ack"),
    hop(7, "shipping", Producer, "request inventory.reserve"),
    hop(8, "inventory", Consumer, "process inventory.reserve"),
    hop(9, "inventory", Internal, "reserve stock"),
    hop(9, "inventory", Producer, "publish"),
    hop(7, "shipping", Producer, "publish notifications.order"),
    hop(8, "notification", Consumer, "process notifications.order").delivered("#1 ack"),
    hop(9, "notification", Internal, "send mail"),
    hop(9, "notification", Client, "ack notifications.order"),
    hop(7, "shipping", Client, "ack orders:paid:shipping"),
    hop(5, "payment", Client, "commit orders"),
];

/// An order that is tried three times over Kafka and twice over RabbitMQ, and ends among the dead letters.
const DECLINED: &[Hop] = &[
    hop(0, "shopper", Internal, "place order"),
    hop(1, "shopper", Client, "POST"),
    hop(2, "orders", Server, "POST /orders"),
    hop(3, "orders", Producer, "send orders"),
    hop(4, "analytics", Consumer, "process orders").by_link(),
    hop(4, "payment", Consumer, "process orders").failed().delivered("commit"),
    hop(5, "payment", Internal, "charge card"),
    hop(5, "payment", Producer, "send orders.retry").again(),
    hop(6, "payment", Consumer, "process orders.retry").failed().delivered("#2 commit"),
    hop(7, "payment", Internal, "charge card"),
    hop(7, "payment", Producer, "send orders.retry").again(),
    hop(8, "payment", Consumer, "process orders.retry").failed().delivered("#3 commit"),
    hop(9, "payment", Internal, "charge card"),
    hop(9, "payment", Producer, "publish orders.review").again(),
    hop(10, "payment", Consumer, "process orders.review").failed().delivered("requeue"),
    hop(11, "payment", Internal, "charge card"),
    hop(11, "payment", Client, "nack orders.review"),
    hop(10, "payment", Consumer, "process orders.review").failed().delivered("↻ reject"),
    hop(11, "payment", Internal, "charge card"),
    hop(11, "payment", Client, "reject orders.review"),
    hop(10, "notification", Consumer, "process orders.dlq").delivered("#2 ack"),
    hop(11, "notification", Internal, "send mail"),
    hop(11, "notification", Client, "ack orders.dlq"),
    hop(9, "payment", Client, "commit orders.retry"),
    hop(7, "payment", Client, "commit orders.retry"),
    hop(5, "payment", Client, "commit orders"),
];

/// What a consumer span says of its message: `#3` is the how-manieth attempt it is, `↻` that the broker delivered it before,
/// and the rest is how it was settled.
pub(crate) fn delivery(span: &Span) -> String {
    if span.kind != Consumer {
        return String::new();
    }
    let attempt = span.attribute(ATTEMPT).map(|attempt| format!("#{attempt}"));
    let again = (span.attribute(REDELIVERED) == Some("true")).then(|| "↻".to_owned());
    let outcome = span.attribute(OUTCOME).map(str::to_owned);
    [attempt, again, outcome].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whether a send links the processing that failed, and the span that sent what failed.
fn is_again(span: &Span, failed: &Span) -> bool {
    let first = failed.parent.into_iter().map(|parent| (failed.trace, parent));
    first.chain([(failed.trace, failed.id)]).all(|link| span.links.contains(&link))
}

/// The hops of a kind of order.
pub(crate) const fn hops(card: Card) -> &'static [Hop] {
    match card {
        Card::Paid => PAID,
        Card::Slow => SLOW,
        Card::Declined => DECLINED,
    }
}

/// How many services, and how many messaging systems, a shipped order meets at least within its own trace.
const SERVICES: usize = 6;
const SYSTEMS: usize = 3;

/// An order that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ordered {
    pub(crate) id: u32,
    pub(crate) card: Card,
    pub(crate) trace: TraceId,
    pub(crate) sampled: bool,
}

/// What was found of one order.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) hops: Vec<&'a Span>,
    pub(crate) missing: Vec<Hop>,
}

/// Spans by what they are looked up with.
pub(crate) struct Spans<'a> {
    pub(crate) all: &'a [Span],
    by_id: HashMap<(TraceId, SpanId), &'a Span>,
    by_trace: HashMap<TraceId, Vec<&'a Span>>,
    linking: HashMap<(TraceId, SpanId), Vec<&'a Span>>,
}

impl<'a> Spans<'a> {
    pub(crate) fn new(all: &'a [Span]) -> Self {
        let mut spans = Self { all, by_id: HashMap::new(), by_trace: HashMap::new(), linking: HashMap::new() };
        for span in all {
            spans.by_id.insert((span.trace, span.id), span);
            spans.by_trace.entry(span.trace).or_default().push(span);
            for link in &span.links {
                spans.linking.entry(*link).or_default().push(span);
            }
        }
        for trace in spans.by_trace.values_mut() {
            trace.sort_by_key(|span| (span.start, span.end));
        }
        spans
    }

    /// The spans of one trace, by start.
    pub(crate) fn of(&self, trace: TraceId) -> &[&'a Span] {
        self.by_trace.get(&trace).map_or(&[], Vec::as_slice)
    }

    /// One span.
    pub(crate) fn get(&self, id: (TraceId, SpanId)) -> Option<&'a Span> {
        self.by_id.get(&id).copied()
    }

    /// The spans that link this one.
    pub(crate) fn linking(&self, span: &Span) -> &[&'a Span] {
        self.linking.get(&(span.trace, span.id)).map_or(&[], Vec::as_slice)
    }

    /// The hops of a trace. Those in traces of their own only where they can be expected: such a trace is sampled by itself.
    pub(crate) fn find(&self, trace: TraceId, hops: &[Hop], links_too: bool) -> Found<'a> {
        let mut found = Found::default();
        let mut above: Vec<Option<&Span>> = Vec::new();
        for hop in hops {
            if hop.relation == Relation::Link && !links_too {
                continue;
            }
            above.truncate(hop.depth);
            let parent = above.last().copied();
            let is_it = |span: &&&Span| {
                span.service == hop.service
                    && span.kind == hop.kind
                    && span.name == hop.name
                    && span.failed() == hop.failed
                    && delivery(span) == hop.delivery
                    && (!hop.again || parent.flatten().is_some_and(|failed| is_again(span, failed)))
                    && (hop.relation == Relation::Link || !found.hops.iter().any(|other| other.id == span.id))
            };
            let span = match (hop.relation, parent) {
                (Relation::Child, None) => self.of(trace).iter().filter(|span| span.parent.is_none()).find(is_it),
                (Relation::Child, Some(Some(parent))) => {
                    self.of(trace).iter().filter(|span| span.parent == Some(parent.id)).find(is_it)
                }
                (Relation::Link, Some(Some(parent))) => self.linking(parent).iter().find(is_it),
                _ => None,
            }
            .copied();
            match span {
                Some(span) => found.hops.push(span),
                None => found.missing.push(*hop),
            }
            above.push(span);
        }
        found
    }
}

/// Whether all that is expected of all orders has arrived.
pub(crate) fn complete(spans: &[Span], orders: &[Ordered], links_too: bool) -> bool {
    let spans = Spans::new(spans);
    orders
        .iter()
        .filter(|order| order.sampled)
        .all(|order| spans.find(order.trace, hops(order.card), links_too).missing.is_empty())
}

/// What does not hold, one sentence each: nothing, if all is well.
pub(crate) fn problems(spans: &Spans<'_>, orders: &[Ordered], links_too: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = HashSet::new();
    for order in orders {
        known.insert(order.trace);
        let who = format!("order {} ({}, trace {})", order.id, order.card, order.trace);
        of_order(spans, order, links_too, &who, &mut problems);
    }
    for span in spans.all {
        let root = span.parent.is_none();
        if root && !is_batch(span) && !known.contains(&span.trace) {
            problems.push(format!("{} begins trace {}, which is no order's", called(span), span.trace));
        }
        of_span(spans, span, &mut problems);
    }
    problems
}

fn of_order(spans: &Spans<'_>, order: &Ordered, links_too: bool, who: &str, problems: &mut Vec<String>) {
    let trace = spans.of(order.trace);
    if !order.sampled {
        if let Some(span) = trace.first() {
            problems.push(format!("{who} is not sampled, but {} spans arrived, {} first", trace.len(), called(span)));
        }
        return;
    }
    let found = spans.find(order.trace, hops(order.card), links_too);
    if let [first, others @ ..] = &found.missing[..] {
        problems.push(match others.len() {
            0 => format!("{who} lacks {first}"),
            others => format!("{who} lacks {first} and {others} more hops"),
        });
    }
    let expected: HashSet<_> = found.hops.iter().map(|span| span.id).collect();
    for span in trace.iter().filter(|span| !expected.contains(&span.id)) {
        problems.push(format!("{who} has a span that nobody expects: {}", called(span)));
    }
    for span in trace {
        for key in FROM_BAGGAGE.into_iter().filter(|key| span.attribute(key).is_none()) {
            problems.push(format!("{who}: {} has no {key}", called(span)));
        }
    }
    if order.card != Card::Declined {
        let services: BTreeSet<_> = trace.iter().map(|span| span.service.as_str()).collect();
        let systems: BTreeSet<_> = trace.iter().filter_map(|span| span.attribute("messaging.system")).collect();
        if services.len() < SERVICES || systems.len() < SYSTEMS {
            problems.push(format!("{who} meets only the services {services:?} and the systems {systems:?}"));
        }
    }
}

/// What holds of every span.
fn of_span(spans: &Spans<'_>, span: &Span, problems: &mut Vec<String>) {
    let mut problem = |what: &str| problems.push(format!("{} (trace {}) {what}", called(span), span.trace));
    let parent = span.parent.map(|id| spans.get((span.trace, id)));
    if let Some(None) = parent {
        problem("is an orphan: its parent never arrived");
    }
    if span.status == Status::Ok {
        problem("claims success, which the convention leaves unset");
    }
    if span.start > span.end {
        problem("ends before it starts");
    }
    if span.attribute("messaging.system").is_some() && span.failed() != span.attribute("error.type").is_some() {
        problem("has a status and an error.type that disagree");
    }
    if span.attribute("messaging.operation.type") == Some("process") {
        match (span.attribute(BATCH), parent.flatten()) {
            (Some(count), _) if count != span.links.len().to_string() => {
                problem(&format!("is a batch of {count}, but links {}", span.links.len()));
            }
            (Some(_), _) => {}
            (None, Some(parent)) if parent.kind == Producer && span.links.contains(&(parent.trace, parent.id)) => {}
            (None, _) => problem("is not a child of, and linked to, the span that sent its message"),
        }
    }
}

/// Whether a span stands for several messages.
pub(crate) fn is_batch(span: &Span) -> bool {
    span.attribute(BATCH).is_some()
}

fn called(span: &Span) -> String {
    format!("{} {} {:?}", span.service, span.name, span.kind)
}

/// How many spans arrived from each service.
pub(crate) fn by_service(spans: &[Span]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for span in spans {
        *counts.entry(span.service.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: TraceId = TraceId::from_bytes([7; 16]);
    const BATCH: TraceId = TraceId::from_bytes([8; 16]);

    fn order(card: Card) -> Ordered {
        Ordered { id: 1, card, trace: TRACE, sampled: true }
    }

    /// What arrives when all is well.
    fn whole(card: Card) -> Vec<Span> {
        let mut above: Vec<SpanId> = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        for (hop, id) in hops(card).iter().zip(1_u64..) {
            above.truncate(hop.depth);
            let parent = above.last().copied();
            let linking = hop.relation == Relation::Link;
            let mut attributes: Vec<_> = FROM_BAGGAGE.map(|key| (key.to_owned(), "x".to_owned())).into();
            let mut set = |key: &str, value: &str| attributes.push((key.to_owned(), value.to_owned()));
            match hop.service {
                "orders" | "payment" => set("messaging.system", "kafka"),
                "shipping" => set("messaging.system", "rabbitmq"),
                "notification" => set("messaging.system", "nats"),
                _ => {}
            }
            if hop.kind == Consumer {
                set("messaging.operation.type", "process");
            }
            if linking {
                set("messaging.batch.message_count", "1");
            }
            if hop.failed {
                set("error.type", "Declined");
            }
            for word in hop.delivery.split_whitespace() {
                match word.strip_prefix('#') {
                    Some(attempt) => set(ATTEMPT, attempt),
                    None if word == "↻" => set(REDELIVERED, "true"),
                    None => set(OUTCOME, word),
                }
            }
            // The parent, and of what is sent again also the parent's.
            let linked = usize::from(hop.kind == Consumer) + if hop.again { 2 } else { 0 };
            let links = above.iter().rev().take(linked).map(|id| (TRACE, *id));
            spans.push(Span {
                trace: if linking { BATCH } else { TRACE },
                id: SpanId::from(id),
                parent: parent.filter(|_| !linking),
                service: hop.service.to_owned(),
                name: hop.name.to_owned(),
                kind: hop.kind,
                start: id,
                end: 100,
                attributes,
                links: links.collect(),
                status: if hop.failed { Status::Error(String::new()) } else { Status::Unset },
            });
            above.push(SpanId::from(id));
        }
        spans
    }

    fn judge(spans: &[Span], order: Ordered) -> Vec<String> {
        problems(&Spans::new(spans), &[order], true)
    }

    fn broken(card: Card, harm: impl FnOnce(&mut Vec<Span>)) -> String {
        let mut spans = whole(card);
        harm(&mut spans);
        judge(&spans, order(card)).join("\n")
    }

    fn named<'a>(spans: &'a mut [Span], service: &str, name: &str) -> &'a mut Span {
        spans.iter_mut().find(|span| span.service == service && span.name == name).expect("it is among the hops")
    }

    #[test]
    fn a_whole_trace_is_no_problem() {
        for card in Card::ALL {
            assert_eq!(judge(&whole(card), order(card)), Vec::<String>::new(), "{card}");
            assert!(complete(&whole(card), &[order(card)], true), "{card}");
        }
    }

    #[test]
    fn every_single_hop_is_missed() {
        for card in Card::ALL {
            for at in 0..hops(card).len() {
                let mut spans = whole(card);
                let gone = spans.remove(at);
                assert!(!complete(&spans, &[order(card)], true), "{card} without {}", called(&gone));
                let problems = judge(&spans, order(card)).join("\n");
                assert!(problems.contains(&format!("lacks {}", hops(card)[at])), "{card}: {problems}");
            }
        }
    }

    #[test]
    fn a_batch_is_not_expected_where_it_is_sampled_by_itself() {
        let spans: Vec<_> = whole(Card::Paid).into_iter().filter(|span| span.trace != BATCH).collect();
        assert!(complete(&spans, &[order(Card::Paid)], false));
        assert_eq!(problems(&Spans::new(&spans), &[order(Card::Paid)], false), Vec::<String>::new());
    }

    #[test]
    fn every_other_mistake_is_reported() {
        let orphan =
            broken(Card::Paid, |spans| named(spans, "notification", "send mail").parent = Some(SpanId::from(99)));
        assert!(orphan.contains("orphan"), "{orphan}");
        let success = broken(Card::Paid, |spans| spans[3].status = Status::Ok);
        assert!(success.contains("claims success"), "{success}");
        let backwards = broken(Card::Paid, |spans| spans[3].end = 0);
        assert!(backwards.contains("ends before it starts"), "{backwards}");
        let unlinked = broken(Card::Paid, |spans| named(spans, "payment", "process orders").links.clear());
        assert!(unlinked.contains("not a child of, and linked to"), "{unlinked}");
        let unlinked = broken(Card::Paid, |spans| named(spans, "analytics", "process orders").links.clear());
        assert!(unlinked.contains("batch of 1, but links 0"), "{unlinked}");
        let forgotten = broken(Card::Declined, |spans| {
            named(spans, "payment", "send orders.retry").links.pop();
        });
        assert!(forgotten.contains("lacks payment send orders.retry Producer, sent again"), "{forgotten}");
        let uncounted = broken(Card::Declined, |spans| {
            named(spans, "payment", "process orders.retry").attributes.retain(|(key, _)| key != ATTEMPT);
        });
        assert!(uncounted.contains("lacks payment process orders.retry Consumer, failed, #2 commit"), "{uncounted}");
        let without_type = broken(Card::Declined, |spans| {
            let failed = spans.iter_mut().find(|span| span.failed()).unwrap();
            failed.attributes.retain(|(key, _)| key != "error.type");
        });
        assert!(without_type.contains("disagree"), "{without_type}");
        let anonymous = broken(Card::Slow, |spans| spans[2].attributes.retain(|(key, _)| key != "user.id"));
        assert!(anonymous.contains("has no user.id"), "{anonymous}");
        let two_systems = broken(Card::Paid, |spans| {
            for span in spans {
                span.attributes.retain(|(_, value)| value != "nats");
            }
        });
        assert!(two_systems.contains("meets only"), "{two_systems}");
        let one_more = broken(Card::Paid, |spans| {
            let more = Span { id: SpanId::from(77), ..spans[5].clone() };
            spans.push(more);
        });
        assert!(one_more.contains("nobody expects: payment process orders"), "{one_more}");
        let stray = broken(Card::Paid, |spans| {
            let stray = Span { trace: TraceId::from(9), parent: None, ..spans[1].clone() };
            spans.push(stray);
        });
        assert!(stray.contains("no order's"), "{stray}");
    }

    #[test]
    fn an_order_that_is_not_sampled_leaves_no_span() {
        let order = Ordered { sampled: false, ..order(Card::Paid) };
        assert_eq!(judge(&[], order), Vec::<String>::new());
        let problems = judge(&whole(Card::Paid)[..1], order).join("\n");
        assert!(problems.contains("not sampled, but 1 spans arrived"), "{problems}");
    }
}
