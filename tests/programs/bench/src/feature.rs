//! What can be switched on beyond the usual.

use std::{fmt, time::Duration};

use opentelemetry_sdk::{
    logs::SdkLoggerProvider,
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
};
use otel_messaging::{AutoCorrelation, Correlation, Instrumentation};

use crate::{mode::Mode, path::Path, peer};

/// A setting of ours that is off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The SDK's metrics, which nobody collects meanwhile. With the Cargo feature `bound-instruments` by those.
    Metrics,
    /// A receive span beside each process span.
    ReceiveSpans,
    /// One header as an attribute.
    CaptureHeaders,
    /// The key of a Kafka message as an attribute.
    CaptureKey,
    /// A hook that adds one attribute.
    Hook,
    /// The SDK's logger provider, for failures, of which there are none.
    LoggerProvider,
    /// The policy that looks at age and lineage.
    Auto,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Metrics,
        Self::ReceiveSpans,
        Self::CaptureHeaders,
        Self::CaptureKey,
        Self::Hook,
        Self::LoggerProvider,
        Self::Auto,
    ];

    /// Installs what they are measured in, for the rest of the process: [`Mode::Recorded`], and messages that have a header
    /// and a key to capture. Returns the mode.
    pub fn install() -> Mode {
        Mode::Recorded.install();
        peer::carry_more();
        Mode::Recorded
    }

    /// Whether it has anything to do there. Messages that are sent have no header to capture, and nobody polls for messages
    /// that are pushed.
    pub fn concerns(self, path: Path) -> bool {
        match self {
            Self::Metrics | Self::Hook | Self::LoggerProvider => true,
            Self::CaptureHeaders | Self::Auto => !path.is_send(),
            Self::ReceiveSpans | Self::CaptureKey => path == Path::KafkaReceive,
        }
    }

    /// The default one, with this switched on.
    pub fn instrumentation(self) -> Instrumentation {
        let builder = Instrumentation::builder();
        let builder = match self {
            Self::Metrics => {
                let never = Duration::from_secs(24 * 3_600);
                let reader = PeriodicReader::builder(InMemoryMetricExporter::default()).with_interval(never).build();
                builder.with_meter_provider(SdkMeterProvider::builder().with_reader(reader).build())
            }
            Self::ReceiveSpans => builder.with_receive_spans(true),
            Self::CaptureHeaders => builder.with_captured_headers(["priority"]),
            Self::CaptureKey => builder.with_kafka_captured_key(true),
            Self::Hook => builder.with_operation_hook(|_, attributes| attributes.set("app.tenant", "eu-1")),
            Self::LoggerProvider => builder.with_logger_provider(SdkLoggerProvider::builder().build()),
            Self::Auto => builder.with_correlation(Correlation::Auto(AutoCorrelation::default())),
        };
        builder.build()
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Metrics if cfg!(feature = "bound-instruments") => "`meter_provider`, bound instruments",
            Self::Metrics => "`meter_provider`",
            Self::ReceiveSpans => "`receive_spans`",
            Self::CaptureHeaders => "`capture_headers`, one",
            Self::CaptureKey => "`capture_key`",
            Self::Hook => "`on_operation`, one attribute",
            Self::LoggerProvider => "`logger_provider`, no failures",
            Self::Auto => "`Correlation::Auto`",
        })
    }
}
