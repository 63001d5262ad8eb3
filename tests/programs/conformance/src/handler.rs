//! Handlers that are the same for all brokers.

use std::{borrow::Cow, slice, time::Duration};

use futures::stream;
use otel_messaging::{MessageExt, MessageStreamExt, process_batch, process_batch_with};

/// What a function finds in the output of a handler that failed: `error.type`, and what is said of it.
pub(crate) const DECLINED: (&str, &str) = ("declined", "the card is declined");

/// Long enough to be told on spans.
const WAIT: Duration = Duration::from_millis(5);

/// What a handler gives: no error, and yet it may have failed.
struct Answer {
    paid: bool,
}

fn declined(answer: &Answer) -> Option<(Cow<'static, str>, &'static str)> {
    (!answer.paid).then_some((DECLINED.0.into(), DECLINED.1))
}

/// A message waits for its handler, and so does another for one that is synchronous.
pub(crate) async fn late<M: MessageExt>(messages: &[M]) {
    let [one, other] = messages else { panic!("two messages") };
    tokio::time::sleep(WAIT).await;
    one.process(|| async {}).await;
    other.in_scope(|| ());
}

/// Messages wait until they are handled together.
pub(crate) async fn late_together<M: MessageExt>(messages: &[M]) {
    tokio::time::sleep(WAIT).await;
    process_batch(messages, || async {}).await;
}

/// Something asks for the context of a message that waits for its handler.
pub(crate) async fn context_first<M: MessageExt>(message: &M) {
    let _context = message.otel_context();
    tokio::time::sleep(WAIT).await;
    message.process(|| async {}).await;
}

/// A function finds the failure of a handler, of one that is synchronous, of one of a stream and of one of a batch; the last
/// handler has nothing to give, and has not failed.
pub(crate) async fn outcomes<M: MessageExt>(messages: &[M]) {
    let [one, synchronous, streamed, together, nothing] = messages else { panic!("five messages") };
    one.process_with(|| async { Answer { paid: false } }, declined).await;
    synchronous.in_scope_with(|| Answer { paid: false }, declined);
    stream::iter([streamed]).process_each_with(1, async |_| Answer { paid: false }, declined).await;
    process_batch_with(slice::from_ref(together), || async { Answer { paid: false } }, declined).await;
    assert_eq!(nothing.process(|| async { None::<()> }).await, None);
}
