//! What OpenTelemetry's components say of themselves.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged while somebody listens.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Listens on this thread until the guard is dropped: for futures, which a closure cannot hold.
    #[must_use]
    pub fn listen(&self) -> DefaultGuard {
        let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        tracing::subscriber::set_default(everything.with_writer(self.clone()).with_ansi(false).finish())
    }

    /// All of it, a line for each event.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("logs are text")
    }
}

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
    let listening = heard.listen();
    work();
    drop(listening);
    heard.text()
}
