//! A sampler, a processor and a propagator that panic: the message goes through and arrives.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_messaging::{Instrumentation, MessageExt};

use crate::queue::{HeaderMap, PUSH, Queue};

#[derive(Debug)]
struct Panics {
    on_start: bool,
}

impl SpanProcessor for Panics {
    fn on_start(&self, _: &mut Span, _: &Context) {
        assert!(!self.on_start, "a processor's bug");
    }

    fn on_end(&self, _: SpanData) {
        // Not both: the SDK ends a span that it could not start while it unwinds, and nobody can catch that.
        assert!(self.on_start, "a processor's bug");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl TextMapPropagator for Panics {
    fn inject_context(&self, _: &Context, _: &mut dyn Injector) {
        panic!("a propagator's bug");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator's bug");
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&[])
    }
}

#[test]
fn no_message_is_lost_and_no_thread_unwinds() {
    for on_start in [false, true] {
        let provider = SdkTracerProvider::builder().with_span_processor(Panics { on_start }).build();
        let instrumentation =
            Instrumentation::builder().tracer_provider(provider).propagator(Panics { on_start }).build();
        let mut queue = Queue::new(instrumentation);
        queue.push_with(HeaderMap::default().with("colour", "green"), "1").unwrap();
        assert_eq!(queue.messages[0], (HeaderMap::default().with("colour", "green"), "1".to_owned()));
        let message = queue.pop().unwrap();
        assert_eq!(message.in_scope(|| Ok::<_, String>(message.id.clone())).unwrap(), "1");
        message.ack();
        drop(message);

        // In a drop that is part of an unwinding a second panic would abort the process.
        let operation = queue.telemetry.operation(PUSH, &[], || otel_messaging::adapter::Destination::named("orders"));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _span = queue.telemetry.send(queue.telemetry.call().unwrap(), &operation, None, |_| ());
            panic!("a client's bug");
        }));
        assert!(unwound.is_err());
    }
}
