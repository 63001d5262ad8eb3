//! What handlers do, and when they start.

use std::{borrow::Cow, panic::AssertUnwindSafe, slice, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use otel_messaging::{MessageExt, MessageStreamExt, process_batch, process_batch_with};

use crate::{
    client::Client,
    scenario::{Performed, panics, performed},
    stage::Stage,
};

pub(crate) const fn all<C: Client>() -> &'static [Performed] {
    performed! {
        handler_fails::<C>, outcomes::<C>, handler_waits::<C>, batch_waits::<C>, context_before_handler::<C>,
        handled_at_once::<C>
    }
}

/// The failure that a function finds in the output of a handler: `error.type`, and its description.
pub(crate) const DECLINED: (&str, &str) = ("declined", "the card is declined");

/// Longer than the shortest wait that is recorded on spans.
const WAIT: Duration = Duration::from_millis(5);

/// The output of a handler: no error, and yet the handler may have failed.
struct Answer {
    paid: bool,
}

fn declined(answer: &Answer) -> Option<(Cow<'static, str>, &'static str)> {
    (!answer.paid).then_some((DECLINED.0.into(), DECLINED.1))
}

async fn acknowledge_all<C: Client>(client: &C, messages: &[C::Message<'_>]) {
    for message in messages {
        client.acknowledge(message).await;
    }
}

async fn handler_fails<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.receive(2).await;
    messages[0].process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
    let panicking = async { messages[1].process(|| async { panics() }).await };
    AssertUnwindSafe(panicking).catch_unwind().await.expect_err("panicked");
    acknowledge_all(&client, &messages).await;
}

async fn outcomes<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.receive(5).await;
    messages[0].process_with(|| async { Answer { paid: false } }, declined).await;
    messages[1].in_scope_with(|| Answer { paid: false }, declined);
    stream::iter([&messages[2]]).process_each_with(1, async |_| Answer { paid: false }, declined).await;
    process_batch_with(slice::from_ref(&messages[3]), || async { Answer { paid: false } }, declined).await;
    assert_eq!(messages[4].process(|| async { None::<()> }).await, None);
    acknowledge_all(&client, &messages).await;
}

async fn handler_waits<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.receive(2).await;
    tokio::time::sleep(WAIT).await;
    messages[0].process(|| async {}).await;
    messages[1].in_scope(|| ());
    acknowledge_all(&client, &messages).await;
}

async fn batch_waits<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.receive(3).await;
    tokio::time::sleep(WAIT).await;
    process_batch(&messages, || async {}).await;
    acknowledge_all(&client, &messages).await;
}

async fn context_before_handler<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.receive(1).await;
    let _context = messages[0].otel_context();
    tokio::time::sleep(WAIT).await;
    messages[0].process(|| async {}).await;
    acknowledge_all(&client, &messages).await;
}

async fn handled_at_once<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let messages = client.messages().await;
    for _ in 0..2 {
        client.send(client.orders(), C::headers([])).await;
    }
    messages.take(2).process_each(1, async |message| client.settle(&message).await).await;
}
