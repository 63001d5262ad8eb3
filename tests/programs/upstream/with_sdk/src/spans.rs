//! The spans of a process, counted.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::{
    Context,
    trace::{Span as _, SpanId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};

/// A processor that keeps no span and knows which ones are open.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    started: u64,
    ended: u64,
    open: HashMap<SpanId, String>,
    /// The names of all attributes that were seen.
    attributes: BTreeSet<String>,
}

impl State {
    fn saw(&mut self, attribute: &str) {
        if !self.attributes.contains(attribute) {
            self.attributes.insert(attribute.to_owned());
        }
    }
}

impl Spans {
    /// Waits until no span is open, at most this long, and says how many were started, how many ended, the names of those
    /// that are open, and the names of all attributes: separated by tabs, the names by `; `.
    pub fn settled(&self, patience: Duration) -> String {
        let (_, changed) = &*self.shared;
        let (state, _) = changed
            .wait_timeout_while(self.state(), patience, |state| !state.open.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = state.open.values().map(String::as_str).collect();
        names.sort_unstable();
        let attributes: Vec<_> = state.attributes.iter().map(String::as_str).collect();
        format!("{}\t{}\t{}\t{}", state.started, state.ended, names.join("; "), attributes.join("; "))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Spans {
    fn on_start(&self, span: &mut Span, _: &Context) {
        let name = span.exported_data().map(|data| data.name.into_owned()).unwrap_or_default();
        let mut state = self.state();
        state.started += 1;
        state.open.insert(span.span_context().span_id(), name);
    }

    fn on_end(&self, span: SpanData) {
        let mut state = self.state();
        state.ended += 1;
        state.open.remove(&span.span_context.span_id());
        let linked = span.links.iter().flat_map(|link| &link.attributes);
        span.attributes.iter().chain(linked).for_each(|attribute| state.saw(attribute.key.as_str()));
        if state.open.is_empty() {
            self.shared.1.notify_all();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        KeyValue,
        trace::{Link, Tracer, TracerProvider},
    };
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[test]
    fn an_open_span_is_named() {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_span_processor(spans.clone()).build();
        let tracer = provider.tracer("test");
        let open = tracer.start("send orders");
        tracer.start("process orders").end();
        assert_eq!(spans.settled(Duration::ZERO), "2\t1\tsend orders\t");
        drop(open);
        assert_eq!(spans.settled(Duration::ZERO), "2\t2\t\t");
    }

    #[test]
    fn a_span_that_ends_late_is_waited_for() {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_span_processor(spans.clone()).build();
        let open = provider.tracer("test").start("send orders");
        let waiting = std::thread::spawn({
            let spans = spans.clone();
            move || spans.settled(Duration::from_secs(60))
        });
        drop(open);
        assert_eq!(waiting.join().unwrap(), "1\t1\t\t");
    }

    #[test]
    fn attributes_are_named_once_those_of_links_too() {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_span_processor(spans.clone()).build();
        let tracer = provider.tracer("test");
        let linked = tracer.start("create orders").span_context().clone();
        for _ in 0..2 {
            let link = Link::new(linked.clone(), vec![KeyValue::new("b", 1)], 0);
            let builder = tracer.span_builder("send orders").with_links(vec![link]);
            drop(builder.with_attributes([KeyValue::new("a", 1)]).start(&tracer));
        }
        assert_eq!(spans.settled(Duration::ZERO), "3\t3\t\ta; b");
    }
}
