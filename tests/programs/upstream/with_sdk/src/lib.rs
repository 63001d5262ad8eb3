//! Linked into a program, this installs OpenTelemetry's SDK and W3C's propagator before `main`, and when the process exits it
//! appends to the file named by [`REPORT`] one line: how many spans were started, how many ended, the names of those that are still
//! open, and the names of all attributes. The program's own code does not change and does not know.
//!
//! The generated packages of `make upstream` link it: the published tests then run as in an application that traces.

mod spans;

use std::{env, fs::File, io::Write, sync::LazyLock, time::Duration};

use opentelemetry::global;
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};

pub use crate::spans::Spans;

/// The environment variable that names the file of reports. Without it nothing is installed.
pub const REPORT: &str = "WITH_SDK_REPORT";

/// Threads that a program leaves behind may end a span while the process exits.
const PATIENCE: Duration = Duration::from_secs(5);

static SPANS: LazyLock<Spans> = LazyLock::new(Spans::default);

// Run before `main`: it uses what Linux and macOS have ready by then, and it cannot unwind into the loader, which would abort.
#[ctor::ctor(unsafe)]
fn install() {
    if env::var_os(REPORT).is_some() {
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(SdkTracerProvider::builder().with_span_processor(SPANS.clone()).build());
    }
}

#[dtor::dtor(unsafe)]
fn report() {
    let Some(path) = env::var_os(REPORT) else { return };
    let line = SPANS.settled(PATIENCE);
    // Nobody can be told that this failed; whoever reads the file misses the line.
    if let Ok(mut file) = File::options().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}
