//! What OpenTelemetry's components say of themselves.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
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

/// What is logged on this thread meanwhile, a line for each event.
pub fn heard(work: impl FnOnce()) -> String {
    let heard = Heard::default();
    let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let subscriber = everything.with_writer(heard.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = heard.0.lock().expect("no writer panics").clone();
    String::from_utf8(bytes).expect("logs are text")
}
