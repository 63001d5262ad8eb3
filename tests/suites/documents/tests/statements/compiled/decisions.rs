//! docs/decisions

use otel_async_nats::jetstream::Context;
use otel_messaging::adapter::{self, SourceId};

fn sources(source: SourceId) {
    let _ = adapter::poll_started(source);
}

fn api_differences(context: Context) {
    let _ = context.into_inner();
}
