//! The rules by name. What each of them looks at is in `rules.rs`, and what of a whole broker in `complete.rs`.

use std::fmt;

/// A rule that is broken, and where.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) scenario: String,
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

macro_rules! rules {
    ($($name:ident: $says:literal,)*) => {
        /// One rule. Each is broken once by a test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule {
            $($name,)*
        }

        impl Rule {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// What has to hold.
            pub(crate) const fn says(self) -> &'static str {
                match self {
                    $(Self::$name => $says,)*
                }
            }
        }
    };
}

rules! {
    // Of each span.
    Scope: "the scope is the adapter's, with its version and the schema of 1.44.0",
    System: "messaging.system is the broker's, on spans and metrics",
    NeverOk: "the status is never Ok",
    ErrorType: "error.type is there exactly when the operation failed",
    Name: "a span is named {operation} {destination}",
    OperationListed: "each operation is one that telemetry.md lists",
    OperationType: "messaging.operation.type is the operation's",
    Kind: "the kind is that of the operation",
    Known: "no name that is deprecated or that neither registry knows",
    Once: "an attribute is there once",
    ValueType: "a value is of the attribute's type",
    Belongs: "an attribute belongs to its signal",
    Required: "a required attribute is there",
    KnownAtCall: "what the client knows at the call is there, on failures too",
    Answered: "what the answer contains is there where the operation did not fail",
    Together: "what belongs together is there together",
    AttributeListed: "an attribute is listed for its operation",
    StartSeen: "each span's start is seen",
    AtStart: "what is known at the call is there at the start",
    LinksAtStart: "links are there at the start",
    LinkAttributes: "what is equal for a batch is on the span, and only the rest on links",
    LinksDiffer: "links lead to different spans",
    ParentLinked: "a parent that is linked is the very span that the link leads to",
    EachItsOwn: "messages that one line counts are of different sends",
    WaitTime: "how long a message waited for its handler is recorded where it did, and only there",
    Described: "a failure that a function finds is described by it",
    // Of each series.
    MetricKnown: "a metric is one that a registry knows",
    Instrument: "a metric has its instrument",
    Unit: "a metric has its unit",
    Boundaries: "a histogram has the boundaries that its registry advises",
    MetricOperation: "a metric is of an operation that is listed for it",
    MetricAlways: "what a metric always has is there",
    MetricAttributeListed: "an attribute is listed for its metric",
    MetricCondition: "what all spans of an operation have by a condition, its metrics have",
    Counts: "what the metrics count, the spans show",
    Durations: "what the durations add up to, the spans took",
    // Of each event.
    EventKnown: "an event is one that the convention knows",
    Severity: "an event has its severity",
    EventAttributes: "an event has the attributes of exceptions",
    EventSays: "an event says what failed, as its span does",
    EventBelongs: "an event belongs to the span that failed",
    EachFailure: "each failure has one event where there is a logger provider",
    // Of a scenario.
    Shows: "a scenario shows what it lists",
    ShowsOnly: "a scenario shows nothing but what it lists",
    Exported: "a scenario exports what is kept of it in tests/programs/conformance/export",
    // Of a broker, over all its scenarios.
    Seen: "what is listed for an operation is seen",
    SeenLate: "what is listed as late comes late",
    SamplingRelevant: "exactly the attributes that are set at the start are sampling_relevant in our registry",
    MetricSeen: "what is listed for a metric is seen",
    Wanted: "what a registry has is there, or left out for a reason",
    LeftOut: "what is left out is in a registry, and is not there",
    Lacking: "a scenario lacks what is said of it",
    Conditions: "what is required by a condition is checked",
    NoEmptyCell: "no cell is empty",
    Switches: "each deviation is shown in both positions of its switch",
    PageCurrent: "the page is current",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.says())
    }
}
