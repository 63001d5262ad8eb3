//! A trace as a picture of text, 120 columns wide at most.
//!
//! ```text
//! service      span                                   kind          ms  delivery   0 ms ··················· 24.1 ms
//! orders          send orders                         PRODUCER    2.10             ████
//! payment          process orders                     CONSUMER    11.0  #2 commit      ██████████████ → parent
//! ```

use std::{collections::HashMap, fmt::Write};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    expectation::{Ordered, Spans, delivery, is_batch},
    receiver::{Span, Status},
};

const SERVICE: usize = 12;
const NAME: usize = 38;
const KIND: usize = 8;
const MILLIS: usize = 7;
const DELIVERY: usize = 10;
/// Bars to scale; notes beside them may use what is left of the line.
const BAR: usize = 32;
const CHART: usize = 120 - SERVICE - NAME - KIND - MILLIS - DELIVERY - 6;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) colours: bool,
}

const BOLD: u8 = 1;
const DIM: u8 = 2;
const RED: u8 = 31;
const SERVICES: [u8; 7] = [36, 32, 33, 35, 34, 96, 95];

impl Paint {
    fn paint(self, colour: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.paint(RED, text)
    }
}

/// Draws the trace of an order.
pub(crate) fn draw(spans: &Spans<'_>, order: &Ordered, paint: Paint) -> String {
    let trace = spans.of(order.trace);
    let start = trace.iter().map(|span| span.start).min().unwrap_or_default();
    let end = trace.iter().map(|span| span.end).max().unwrap_or_default();
    let scale = Scale { start, length: end.saturating_sub(start).max(1) };
    let mut colours = HashMap::new();
    for span in trace {
        let next = SERVICES[colours.len() % SERVICES.len()];
        colours.entry(span.service.as_str()).or_insert(next);
    }

    let mut text = String::new();
    let title = format!(
        "{} order {}: trace {}, {} spans, {} services, {}",
        order.card,
        order.id,
        order.trace,
        trace.len(),
        colours.len(),
        millis(scale.length) + " ms",
    );
    let _ = writeln!(text, "{}", paint.bold(&title));
    let total = format!("{} ms", millis(scale.length));
    let ruler = format!("0 ms {} {total}", "·".repeat(BAR.saturating_sub(6 + total.len())));
    let head = format!(
        "{:SERVICE$} {:NAME$} {:KIND$} {:>MILLIS$}  {:DELIVERY$} {ruler}",
        "service", "span", "kind", "ms", "delivery"
    );
    let _ = writeln!(text, "{}", paint.dim(&head));

    let mut drawn = Vec::new();
    for root in trace.iter().filter(|span| span.parent.is_none_or(|id| spans.get((span.trace, id)).is_none())) {
        tree(trace, root, 0, &mut drawn);
    }
    for (depth, span) in drawn {
        let colour = colours[span.service.as_str()];
        let (bar, note) = scale.chart(span, &note(spans, span));
        let chart =
            if span.failed() { bar.paint(paint, RED, RED, &note) } else { bar.paint(paint, colour, DIM, &note) };
        let _ = writeln!(text, "{} {chart}", columns(span, depth, colour, paint));
    }
    text + &linked_from_elsewhere(spans, trace, start, paint)
}

/// Depth first, children by start.
fn tree<'a>(trace: &[&'a Span], span: &'a Span, depth: usize, drawn: &mut Vec<(usize, &'a Span)>) {
    drawn.push((depth, span));
    for child in trace.iter().filter(|child| child.parent == Some(span.id)) {
        tree(trace, child, depth + 1, drawn);
    }
}

/// Service, indented name, kind, length, and what is known of the message's delivery.
fn columns(span: &Span, depth: usize, colour: u8, paint: Paint) -> String {
    let service = paint.paint(colour, &format!("{:SERVICE$}", cut(&span.service, SERVICE)));
    let name = format!("{:NAME$}", cut(&format!("{}{}", " ".repeat(depth), span.name), NAME));
    let name = if span.failed() { paint.error(&name) } else { name };
    let length = millis(span.end.saturating_sub(span.start));
    let delivery = if is_batch(span) { format!("{} links", span.links.len()) } else { delivery(span) };
    let delivery = paint.bold(&format!("{:DELIVERY$}", cut(&delivery, DELIVERY)));
    format!("{service} {name} {:KIND$} {length:>MILLIS$}  {delivery}", kind(span.kind))
}

/// Spans of other traces that link this one: batches.
fn linked_from_elsewhere(spans: &Spans<'_>, trace: &[&Span], start: u64, paint: Paint) -> String {
    let mut text = String::new();
    for span in trace {
        for batch in spans.linking(span).iter().filter(|batch| batch.trace != span.trace) {
            let after = millis(batch.start.saturating_sub(start));
            let others = match batch.links.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let note = format!("→ {}{others}, at {after} ms", span.name);
            let columns = columns(batch, 0, DIM, paint);
            let _ = writeln!(text, "{columns} {}", paint.dim(&cut(&note, CHART)));
        }
    }
    text
}

/// What stands beside the bar: an error, and which spans are linked, with their services where they do not stand above.
fn note(spans: &Spans<'_>, span: &Span) -> String {
    let error = match &span.status {
        Status::Error(what) => Some(format!("✗ {what}")),
        _ => None,
    };
    let parent = span.parent.map(|id| (span.trace, id));
    // The parent first: where the line ends early, it is known what the rest is.
    let mut links = span.links.clone();
    links.sort_by_key(|link| Some(*link) != parent);
    let links = links.iter().map(|link| match spans.get(*link) {
        Some(_) if Some(*link) == parent => "→ parent".to_owned(),
        Some(linked) if is_above(spans, linked, span) => format!("→ {}", linked.name),
        Some(linked) => format!("→ {} ({})", linked.name, linked.service),
        None => format!("→ {}", link.1),
    });
    error.into_iter().chain(links).collect::<Vec<_>>().join(" ")
}

/// Whether it is among the parents of a span.
fn is_above(spans: &Spans<'_>, above: &Span, span: &Span) -> bool {
    let parent = |span: &&Span| spans.get((span.trace, span.parent?));
    std::iter::successors(spans.get((span.trace, span.id)), parent).skip(1).any(|parent| parent.id == above.id)
}

struct Scale {
    start: u64,
    length: u64,
}

/// A bar, and where its note stands.
struct Bar {
    from: usize,
    length: usize,
    /// The note is on the left of it.
    left: bool,
}

impl Scale {
    fn chart(&self, span: &Span, note: &str) -> (Bar, String) {
        let column = |at: u64| {
            let column = u128::from(at.saturating_sub(self.start)) * BAR as u128 / u128::from(self.length);
            usize::try_from(column).unwrap_or(BAR)
        };
        let from = column(span.start).min(BAR - 1);
        let length = (column(span.end).min(BAR)).saturating_sub(from).max(1);
        let (room_left, room_right) = (from.saturating_sub(1), CHART - from - length - 1);
        let width = note.chars().count();
        let left = width > room_right && room_left > room_right;
        (Bar { from, length, left }, cut(note, if left { room_left } else { room_right }))
    }
}

impl Bar {
    fn paint(&self, paint: Paint, bar: u8, colour: u8, note: &str) -> String {
        let drawn = paint.paint(bar, &"█".repeat(self.length));
        if note.is_empty() {
            format!("{}{drawn}", " ".repeat(self.from))
        } else if self.left {
            let before = self.from - 1 - note.chars().count();
            format!("{}{} {drawn}", " ".repeat(before), paint.paint(colour, note))
        } else {
            format!("{}{drawn} {}", " ".repeat(self.from), paint.paint(colour, note))
        }
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "",
        SpanKind::Internal => "INTERNAL",
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
    }
}

fn millis(nanos: u64) -> String {
    // Exact enough for a picture.
    #[allow(clippy::cast_precision_loss)]
    let millis = nanos as f64 / 1e6;
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.1}") }
}

/// At most so many columns, with a mark where something is left out.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry::{SpanId, TraceId};

    use super::*;
    use crate::order::Card;

    fn span(id: u64, parent: Option<u64>, name: &str, millis: (u64, u64)) -> Span {
        Span {
            trace: TraceId::from(7),
            id: SpanId::from(id),
            parent: parent.map(SpanId::from),
            service: "orders".to_owned(),
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start: millis.0 * 1_000_000,
            end: millis.1 * 1_000_000,
            attributes: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
        }
    }

    #[test]
    fn a_trace_is_drawn_as_a_tree_to_scale() {
        let mut late = span(3, Some(1), "late", (75, 100));
        late.links = vec![(TraceId::from(7), SpanId::from(2))];
        late.status = Status::Error("no".to_owned());
        late.kind = SpanKind::Consumer;
        let attributes = [
            ("otel_messaging.delivery.attempt", "2"),
            ("otel_messaging.delivery.redelivered", "true"),
            ("otel_messaging.settlement.outcome", "reject"),
        ];
        late.attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let all = [span(1, None, "root", (0, 100)), late, span(2, Some(1), "early", (0, 50))];
        let order = Ordered { id: 1, card: Card::Paid, trace: TraceId::from(7), sampled: true };
        let drawn = draw(&Spans::new(&all), &order, Paint { colours: false });
        let lines: Vec<_> = drawn.lines().map(|line| line.get(60..).unwrap_or_default().trim_end()).collect();
        let bar = |from, length| format!("{}{}", " ".repeat(from), "█".repeat(length));
        assert!(drawn.lines().nth(3).unwrap().starts_with("orders        early "), "{drawn}");
        assert_eq!(
            lines[2..],
            [
                format!("   100.0             {}", bar(0, 32)),
                format!("    50.0             {}", bar(0, 16)),
                // There is no room on the right of it, and none for the whole of what happened to its message.
                format!("    25.0  #2 ↻ reje… {}✗ no → early (orders) {}", bar(2, 0), bar(0, 8)),
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_120_columns() {
        let all: Vec<_> = (1..30)
            .map(|id| {
                let name = "a name that is much longer than what there is room for ".repeat(2);
                let mut span = span(id, (id > 1).then(|| id - 1), &name, (id, 40));
                span.links = vec![(TraceId::from(7), SpanId::from(1))];
                span
            })
            .collect();
        let order = Ordered { id: 1, card: Card::Paid, trace: TraceId::from(7), sampled: true };
        let drawn = draw(&Spans::new(&all), &order, Paint { colours: false });
        assert_eq!(drawn.lines().count(), 31);
        for line in drawn.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}
