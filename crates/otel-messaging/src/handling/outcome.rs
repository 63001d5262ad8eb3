//! The outcome of a handler: its error, if there is one, and the error's name.

use std::{any::type_name, borrow::Cow, fmt, marker::PhantomData, ops::ControlFlow};

use crate::{catch_panic::catch_panic, spans::process_span::ProcessSpan};

/// The output of a handler: no error, or a result whose error is recorded on the process span.
///
/// The name of an error is the name of its type, unless [`with_error_type`](crate::InstrumentationBuilder::with_error_type) names
/// it. An `Option`, a `bool` and a [`ControlFlow`] are no failures, whatever their value. For any other output, and for an error
/// type that can hold many errors (`anyhow::Error`, `Box<dyn Error>`), use [`process_with`](crate::MessageExt::process_with).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of a handler",
    note = "a handler returns `()`, `Option`, `bool`, `ControlFlow`, or a `Result` whose error implements `Display`",
    note = "map the error, for example by `.map_err(|(error, _)| error)` after a Kafka `send`, or use a method that finds \
            the error by a function: `process_with`, `in_scope_with`, `process_each_with`, `process_batch_with`"
)]
pub trait Outcome {
    /// The name of the error's type and the error, if there is one.
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)>;
}

impl Outcome for () {
    #[inline]
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        None
    }
}

impl Outcome for bool {
    #[inline]
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        None
    }
}

impl<T> Outcome for Option<T> {
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        None
    }
}

impl<B, C> Outcome for ControlFlow<B, C> {
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        None
    }
}

impl<T, E: fmt::Display> Outcome for Result<T, E> {
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        self.as_ref().err().map(|error| (type_name::<E>(), error as &dyn fmt::Display))
    }
}

/// Finds the error in a handler's output. The process span ends with that error.
pub trait FindError<T> {
    /// Ends the span, with the error in the output if there is one.
    fn end(&mut self, span: &ProcessSpan, output: &T);
}

/// The error is in the output itself: see [`Outcome`].
#[derive(Debug, Clone, Copy)]
pub struct ReturnedError;

impl<T: Outcome> FindError<T> for ReturnedError {
    #[inline]
    fn end(&mut self, span: &ProcessSpan, output: &T) {
        match output.error() {
            Some((type_name, error)) => span.fail_by(type_name, error),
            None => span.end(),
        }
    }
}

/// A function of the application finds the error: see [`process_with`](crate::MessageExt::process_with).
pub struct ErrorBy<E, D> {
    find: E,
    described: PhantomData<fn() -> D>,
}

impl<E, D> ErrorBy<E, D> {
    pub(crate) fn new(find: E) -> Self {
        Self { find, described: PhantomData }
    }
}

impl<T, E, D> FindError<T> for ErrorBy<E, D>
where
    E: FnMut(&T) -> Option<(Cow<'static, str>, D)>,
    D: fmt::Display,
{
    fn end(&mut self, span: &ProcessSpan, output: &T) {
        match catch_panic(|| (self.find)(output)).flatten() {
            Some((error_type, error)) => span.fail(error_type, error),
            None => span.end(),
        }
    }
}

impl<E, D> fmt::Debug for ErrorBy<E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBy").finish_non_exhaustive()
    }
}
