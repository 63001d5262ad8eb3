//! The warning about a span that is held open around a consumer's loop. In a process of its own, because it listens to
//! what OpenTelemetry's components say of themselves.

#![cfg(feature = "internal-logs")]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use std::{
    io,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::TraceContextExt;
use otel_messaging::{Auto, Correlation, InstrumentationBuilder, MessageExt};
use support::Sdk;
use tracing_subscriber::fmt::MakeWriter;

use crate::queue::Queue;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The warnings of a consumer that takes five messages, inside one span or each inside its own.
fn warnings(one_span: bool, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> Vec<String> {
    let heard = Heard::default();
    let subscriber = tracing_subscriber::fmt().with_writer(heard.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let sdk = Sdk::new();
        let mut queue = Queue::new(configure(sdk.instrumentation_builder()).build());
        for _ in 0..5 {
            queue.push("1").unwrap();
        }
        let held = sdk.app_span("loop");
        while !queue.messages.is_empty() {
            let span = if one_span { held.clone() } else { sdk.app_span("turn") };
            let _attached = span.clone().attach();
            queue.pop_as("orders", |a| a.redelivered(true)).unwrap().in_scope(|| ());
            if !one_span {
                span.span().end();
            }
        }
    });
    let heard = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    heard.lines().filter(|line| line.contains("messaging.consumer.ambient_span")).map(str::to_owned).collect()
}

#[test]
fn a_span_around_a_loop_is_named_once_with_the_remedy() {
    let warned = warnings(true, |builder| builder);
    let [warning] = &warned[..] else { panic!("{warned:#?}") };
    assert!(warning.contains("WARN otel-messaging:") && warning.contains("Correlation::Parent"), "{warning}");
    assert_eq!(warnings(true, |builder| builder.correlation(Correlation::Link)).len(), 1, "it grows the same way");

    // No span grows.
    assert_eq!(warnings(false, |builder| builder), [""; 0]);
    assert_eq!(warnings(true, |builder| builder.correlation(Correlation::Parent)), [""; 0]);
    assert_eq!(warnings(true, |builder| builder.correlation(Correlation::Auto(Auto::default()))), [""; 0]);
    assert_eq!(warnings(true, |builder| builder.filter(|_| false)), [""; 0]);
}
