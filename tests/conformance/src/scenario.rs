//! What is performed, and what an operation may look like.

use futures::future::BoxFuture;

use crate::stage::Stage;

/// Something an application does with a broker, and what has to be seen of it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) does: &'static str,
    /// One line for each span, as `line.rs` writes them; the same for metrics (`metric …`), where they are not to be
    /// derived from the spans.
    pub(crate) shows: &'static str,
    pub(crate) run: fn(Stage) -> BoxFuture<'static, ()>,
}

impl Scenario {
    /// How many spans are to be seen.
    pub(crate) fn spans(&self) -> usize {
        let lines = self.lines().filter(|line| !line.starts_with("metric "));
        lines.map(|line| line.split_once(" x ").and_then(|(count, _)| count.parse().ok()).unwrap_or(1)).sum()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.shows.lines().map(str::trim).filter(|line| !line.is_empty())
    }
}

/// One scenario: its function's name is its own.
macro_rules! scenario {
    ($run:ident, $does:expr, $shows:expr) => {
        $crate::scenario::Scenario {
            name: stringify!($run),
            does: $does,
            shows: $shows,
            run: |stage| Box::pin($run(stage)),
        }
    };
}
pub(crate) use scenario;

/// One operation of an adapter, and the attributes that its spans have.
pub(crate) struct Operation {
    /// `messaging.operation.name`.
    pub(crate) name: &'static str,
    /// `messaging.operation.type`.
    pub(crate) kind: &'static str,
    /// When its span begins and ends.
    pub(crate) span: &'static str,
    /// On every span of it that did not fail.
    pub(crate) always: &'static str,
    /// Where the message, the answer or a failure has it.
    pub(crate) sometimes: &'static str,
    /// Where the user asks for it.
    pub(crate) asked: &'static str,
    /// Which of these are only learned from the answer, and set after the start.
    pub(crate) late: &'static str,
}

impl Operation {
    /// The convention's names for its spans.
    pub(crate) fn spans(&self) -> &'static [&'static str] {
        match self.kind {
            "create" => &["create.producer"],
            "send" => &["send.producer", "send.client"],
            "receive" => &["receive.client"],
            "process" => &["process.consumer"],
            _ => &["settle.client"],
        }
    }
}

/// The words of a list of names.
pub(crate) fn words(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.split_whitespace()
}

pub(crate) const ON_PURPOSE: &str = "on purpose";

/// A handler that panics.
pub(crate) fn panics() {
    std::panic::panic_any(ON_PURPOSE);
}
