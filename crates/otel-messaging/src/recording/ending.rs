//! The end of a span, whether a value owns the span or a context holds it.

use std::time::SystemTime;

use opentelemetry::{
    KeyValue,
    global::BoxedSpan,
    trace::{Span, SpanRef, Status},
};

use crate::catch_panic::catch_panic;

pub(crate) trait EndingSpan {
    fn is_recorded(&self) -> bool;

    fn set_error(&mut self, error_type: KeyValue, status: Status);

    /// Ends the span at this time; `None` for now.
    fn end_at(&mut self, at: Option<SystemTime>);
}

impl EndingSpan for BoxedSpan {
    fn is_recorded(&self) -> bool {
        Span::is_recording(self)
    }

    fn set_error(&mut self, error_type: KeyValue, status: Status) {
        self.set_attribute(error_type);
        self.set_status(status);
    }

    #[inline]
    fn end_at(&mut self, at: Option<SystemTime>) {
        catch_panic(|| match at {
            Some(time) => self.end_with_timestamp(time),
            // A non-recording span has no end time, so the clock is not read.
            None if !Span::is_recording(self) => self.end_with_timestamp(SystemTime::UNIX_EPOCH),
            None => Span::end(self),
        });
    }
}

impl EndingSpan for SpanRef<'_> {
    fn is_recorded(&self) -> bool {
        SpanRef::is_recording(self)
    }

    fn set_error(&mut self, error_type: KeyValue, status: Status) {
        self.set_attribute(error_type);
        self.set_status(status);
    }

    #[inline]
    fn end_at(&mut self, at: Option<SystemTime>) {
        catch_panic(|| match at {
            Some(time) => self.end_with_timestamp(time),
            None => SpanRef::end(self),
        });
    }
}
