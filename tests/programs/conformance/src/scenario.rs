//! What is performed, and what an operation may look like.

use futures::future::LocalBoxFuture;

use crate::stage::Stage;

/// Something an application does with a broker, and the spans and metrics that have to be seen of it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) does: &'static str,
    /// One line for each span, as the legend of `line.rs` says; the same for metrics (`metric …`), where they are not to be
    /// derived from the spans.
    pub(crate) shows: &'static str,
    pub(crate) run: Run,
}

/// Performs a scenario.
pub(crate) type Run = fn(Stage) -> LocalBoxFuture<'static, ()>;

/// The name of a scenario, and the function that performs it.
pub(crate) type Performed = (&'static str, Run);

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

/// Functions that perform scenarios. A scenario has the name of its function.
macro_rules! performed {
    ($($run:ident $(::<$client:ident>)?),*) => {
        &[$((stringify!($run), |stage| Box::pin($run$(::<$client>)?(stage)))),*]
    };
}
pub(crate) use performed;

/// One operation of an adapter, and the attributes that its spans have.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    /// `messaging.operation.name`.
    pub(crate) name: &'static str,
    /// `messaging.operation.type`.
    pub(crate) kind: &'static str,
    /// When its span begins and ends.
    pub(crate) span: &'static str,
    /// On every span of it, also where it failed. Of a batch an attribute may be on each link instead.
    pub(crate) always: &'static str,
    /// On every span of the operation that did not fail: the answer has it.
    pub(crate) answered: &'static str,
    /// Where the message, the answer or a failure has it.
    pub(crate) sometimes: &'static str,
    /// Which of these are there together or not at all; a list for each such group.
    pub(crate) together: &'static [&'static str],
    /// Where the user asks for it.
    pub(crate) asked: &'static str,
    /// Which of these are only learned from the answer, and set after the start; `links` where one is.
    pub(crate) late: &'static str,
}

/// One metric of an adapter, and the attributes that its series have.
pub(crate) struct Measure {
    pub(crate) metric: &'static str,
    /// The `messaging.operation.name`s that it has.
    pub(crate) operations: &'static str,
    pub(crate) always: &'static str,
    pub(crate) sometimes: &'static str,
    /// Where the user asks for it.
    pub(crate) asked: &'static str,
}

impl Measure {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static str> {
        words(self.always).chain(words(self.sometimes)).chain(words(self.asked))
    }

    pub(crate) fn lists(&self, key: &str) -> bool {
        self.keys().any(|listed| listed == key)
    }
}

/// An attribute that a registry has and the adapter does not emit.
#[derive(Clone, Copy)]
pub(crate) struct LeftOut {
    pub(crate) attribute: &'static str,
    /// Of which operations and metrics; `*`: of all that could have it.
    pub(crate) of: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const fn left_out(attribute: &'static str, of: &'static str, why: &'static str) -> LeftOut {
    LeftOut { attribute, of, why }
}

impl LeftOut {
    pub(crate) fn excuses(&self, attribute: &str, of: &str) -> bool {
        self.attribute == attribute && (self.of == "*" || words(self.of).any(|it| it == of))
    }
}

/// An attribute that an operation always has, but not in one scenario.
pub(crate) struct Lacking {
    pub(crate) attribute: &'static str,
    pub(crate) operations: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) why: &'static str,
}

impl Operation {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        name: "",
        kind: "",
        span: "",
        always: "",
        answered: "",
        sometimes: "",
        together: &[],
        asked: "",
        late: "",
    };

    /// All that is listed for it.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static str> {
        words(self.always).chain(words(self.answered)).chain(words(self.sometimes)).chain(words(self.asked))
    }

    pub(crate) fn lists(&self, key: &str) -> bool {
        let of_header = |listed| key.strip_prefix(listed).is_some_and(|rest| rest.starts_with(".x-"));
        self.keys().any(|listed| listed == key || of_header(listed))
    }

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

/// When process spans start and end; the page says which start is which.
pub(crate) const PROCESS: &str =
    "from the handler's start, or else from the delivery, to the end of the handler, or to the drop of the message";

/// Why a `consume` has no attributes of a message.
pub(crate) const NO_MESSAGE: &str = "it has failed, and brought no message";

/// The words of a list of names.
pub(crate) fn words(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.split_whitespace()
}

pub(crate) const ON_PURPOSE: &str = "on purpose";

/// A handler that panics.
pub(crate) fn panics() {
    std::panic::panic_any(ON_PURPOSE);
}
