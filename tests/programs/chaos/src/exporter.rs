//! Exporters that make trouble, each behind what a service has in front of its own.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};

/// What is the matter with the exporter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exporter {
    /// Nothing.
    Well,
    /// Each batch takes a second.
    Slow,
    /// The queue in front of it takes sixteen spans, and none leaves it for seconds.
    Full,
    /// The backend is not there.
    Gone,
    /// It panics, and so does a processor at the end of each span of ours, on whatever thread that is.
    Panics,
}

/// The payload of the panics, which distinguishes them from other panics.
const ON_PURPOSE: &str = "on purpose";

impl Exporter {
    /// The name of its phase.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Well => "exporter well",
            Self::Slow => "exporter slow",
            Self::Full => "exporter full",
            Self::Gone => "exporter gone",
            Self::Panics => "exporter panics",
        }
    }

    /// A provider that reports to `first` and exports here. `handed` counts the spans that came as far as the exporter, `panics`
    /// those at whose end a processor panics.
    pub(crate) fn provider(
        self,
        first: impl SpanProcessor + 'static,
        handed: Arc<AtomicU64>,
        panics: Arc<AtomicU64>,
    ) -> SdkTracerProvider {
        let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_millis(200));
        let config = match self {
            Self::Full => config.with_max_queue_size(16).with_max_export_batch_size(16),
            _ => config,
        };
        let counting = Counting { exporter: self, handed };
        let batches = BatchSpanProcessor::builder(counting).with_batch_config(config.build()).build();
        let provider = SdkTracerProvider::builder().with_span_processor(first).with_span_processor(batches);
        match self {
            Self::Panics => provider.with_span_processor(PanicsAtEnd(panics)),
            _ => provider,
        }
        .build()
    }

    /// Why the exporter made no trouble, if it made none.
    pub(crate) fn idle(self, handed: u64, panics: u64, ended: u64) -> Option<&'static str> {
        match self {
            _ if handed == 0 => Some("no span came as far as the exporter"),
            Self::Panics if panics == 0 => Some("no processor panicked"),
            Self::Full if handed * 2 > ended => Some("the queue before the exporter was not full"),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Counting {
    exporter: Exporter,
    handed: Arc<AtomicU64>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.handed.fetch_add(batch.len() as u64, Relaxed);
        match self.exporter {
            Exporter::Well => Ok(()),
            Exporter::Slow => {
                thread::sleep(Duration::from_secs(1));
                Ok(())
            }
            Exporter::Full => {
                thread::sleep(Duration::from_secs(4));
                Ok(())
            }
            Exporter::Gone => Err(OTelSdkError::InternalFailure("the backend is not there".to_owned())),
            Exporter::Panics => panic::panic_any(ON_PURPOSE),
        }
    }
}

/// Panics in the call that ends a span of ours. A span of the application's own would bring its panic to the application.
#[derive(Debug)]
struct PanicsAtEnd(Arc<AtomicU64>);

impl SpanProcessor for PanicsAtEnd {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.instrumentation_scope.name().starts_with("otel-") {
            self.0.fetch_add(1, Relaxed);
            panic::panic_any(ON_PURPOSE);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Says nothing of panics that are on purpose.
pub(crate) fn hush() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref() != Some(&ON_PURPOSE) {
            say(panic);
        }
    }));
}
