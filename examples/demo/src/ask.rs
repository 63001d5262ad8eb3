//! Asks a Jaeger for a whole trace of each kind of order: the same table of hops, on spans that took the long way round.

use std::time::Duration;

use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::{
    Error,
    expectation::{Spans, hops},
    order::Card,
    receiver::{Span, Status},
};

/// How long the traces may take to appear.
const PATIENCE: Duration = Duration::from_secs(120);

/// Done when there is a whole trace of each kind.
pub(crate) async fn run(jaeger: &str) -> Result<(), Error> {
    let url = format!("{}/api/traces?service=shopper&limit=100", jaeger.trim_end_matches('/'));
    let http = Client::new();
    // What is lacking is told each time it is something else.
    let mut last = String::new();
    let search = async {
        let mut again = interval(Duration::from_secs(1));
        loop {
            again.tick().await;
            let lacking = match look(&http, &url).await {
                Ok(lacking) if lacking.is_empty() => return,
                Ok(lacking) => lacking.join("\n"),
                Err(error) => format!("no answer: {error}"),
            };
            if lacking != last {
                println!("waiting for what is lacking:\n{lacking}");
                last = lacking;
            }
        }
    };
    timeout(PATIENCE, search).await.map_err(|_| format!("no whole trace of each kind within {PATIENCE:?}: {last}"))?;
    Ok(())
}

/// All that is still lacking.
async fn look(http: &Client, url: &str) -> Result<Vec<String>, Error> {
    let answer: Answer = http.get(url).send().await?.error_for_status()?.json().await?;
    let all: Vec<Span> = answer.data.into_iter().flat_map(Trace::spans).collect();
    let spans = Spans::new(&all);
    let (mut whole, mut lacking) = (Vec::new(), Vec::new());
    for card in Card::ALL {
        let mut best = format!("{card}: no such order");
        let roots = all.iter().filter(|span| span.attribute("order.card") == Some(card.name()));
        let complete = roots.into_iter().any(|root| {
            // Batches are traces of their own, which were not asked for.
            let found = spans.find(root.trace, hops(card), false);
            best = match found.missing.first() {
                None => format!("{card}: trace {}, {} hops", root.trace, found.hops.len()),
                Some(_) => {
                    let missing: Vec<_> = found.missing.iter().map(ToString::to_string).collect();
                    format!("{card}: trace {} lacks {}", root.trace, missing.join(", "))
                }
            };
            found.missing.is_empty()
        });
        if complete { whole.push(best) } else { lacking.push(best) }
    }
    if lacking.is_empty() {
        whole.iter().for_each(|line| println!("{line}"));
    }
    Ok(lacking)
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Vec<Trace>,
}

#[derive(Debug, Deserialize)]
struct Trace {
    spans: Vec<JaegerSpan>,
    processes: std::collections::HashMap<String, Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace: String,
    #[serde(rename = "spanID")]
    span: String,
    operation_name: String,
    references: Vec<Reference>,
    /// Microseconds since 1970.
    start_time: u64,
    /// Microseconds.
    duration: u64,
    tags: Vec<Tag>,
    #[serde(rename = "processID")]
    process: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace: String,
    #[serde(rename = "spanID")]
    span: String,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    value: Value,
}

impl Trace {
    fn spans(self) -> impl Iterator<Item = Span> {
        let Self { spans, processes } = self;
        spans.into_iter().filter_map(move |span| {
            let service = processes.get(&span.process).map(|process| process.service_name.clone())?;
            span.read(service)
        })
    }
}

impl JaegerSpan {
    fn read(self, service: String) -> Option<Span> {
        let trace = TraceId::from_hex(&self.trace).ok()?;
        let attributes: Vec<_> = self
            .tags
            .into_iter()
            .map(|tag| (tag.key, tag.value.as_str().map_or_else(|| tag.value.to_string(), str::to_owned)))
            .collect();
        let tag = |key: &str| attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let kind = match tag("span.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            Some("producer") => SpanKind::Producer,
            Some("consumer") => SpanKind::Consumer,
            _ => SpanKind::Internal,
        };
        let status = match tag("otel.status_code") {
            Some("ERROR") => Status::Error(tag("otel.status_description").unwrap_or_default().to_owned()),
            Some("OK") => Status::Ok,
            _ => Status::Unset,
        };
        let referred = |what: &str| {
            self.references
                .iter()
                .filter(|reference| reference.ref_type == what)
                .filter_map(|reference| {
                    Some((TraceId::from_hex(&reference.trace).ok()?, SpanId::from_hex(&reference.span).ok()?))
                })
                .collect::<Vec<_>>()
        };
        let links = referred("FOLLOWS_FROM");
        // Jaeger keeps one reference between two spans: a parent that is linked too is there as a link, and the last of
        // several, because what is sent again links what was sent first before the attempt that failed.
        let parent = referred("CHILD_OF").into_iter().chain(links.iter().rev().copied()).find(|(of, _)| *of == trace);
        let parent = parent.map(|(_, id)| id);
        Some(Span {
            trace,
            id: SpanId::from_hex(&self.span).ok()?,
            parent,
            service,
            name: self.operation_name,
            kind,
            start: self.start_time * 1_000,
            end: (self.start_time + self.duration) * 1_000,
            attributes,
            links,
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_parent_that_is_linked_is_a_parent() {
        let reference = |kind: &str, span: u64| json!({"refType": kind, "traceID": "7", "spanID": format!("{span:x}")});
        let span = |references: Value| {
            let span = json!({
                "traceID": "7", "spanID": "9", "operationName": "send orders.retry", "references": references,
                "startTime": 1, "duration": 1, "tags": [], "processID": "p1",
            });
            serde_json::from_value::<JaegerSpan>(span).unwrap().read("payment".to_owned()).unwrap()
        };
        let parent = |references| span(references).parent.map(|id| u64::from_be_bytes(id.to_bytes()));
        assert_eq!(parent(json!([reference("CHILD_OF", 1), reference("FOLLOWS_FROM", 2)])), Some(1));
        assert_eq!(parent(json!([reference("FOLLOWS_FROM", 1)])), Some(1));
        // Sent again: the first send, and the attempt that failed, which is the parent.
        assert_eq!(parent(json!([reference("FOLLOWS_FROM", 1), reference("FOLLOWS_FROM", 2)])), Some(2));
        assert_eq!(parent(json!([])), None);
    }
}
