//! An iterator that delivers the messages of one receive operation.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::{
    description::source::SourceId,
    handling::received_message::ReceivedMessage,
    recording::prepared_operation::PreparedOperation,
    spans::{batch_attributes::Batch, hand::poll_started, operation_start::OperationStart},
    telemetry::Telemetry,
};

/// For adapters: an iterator over the messages that one receive operation returned.
///
/// `next` delivers a message. So a [`sequential`](crate::sequential) loop over this iterator has one message in hand at a time.
/// The receive span ends with the iterator. The span links the delivered messages, and its end time is that of the broker's
/// answer.
pub struct DeliverIter<I, F> {
    items: I,
    source: SourceId,
    deliver: F,
    receive: Option<Receive>,
}

struct Receive {
    telemetry: Arc<Telemetry>,
    start: OperationStart,
    operation: Arc<PreparedOperation>,
    answered_at: SystemTime,
    delivered: Batch,
}

impl<I: Iterator, F> DeliverIter<I, F> {
    /// Creates the iterator. An adapter calls this when the broker has answered. `deliver` delivers each item of `items`, from
    /// the same `source`.
    ///
    /// `receive` is the start of the receive operation and the operation; `None` if the operation is not recorded. A receive
    /// operation without a message (the upper bound of the `size_hint` of `items` is 0) is not recorded.
    pub fn new(
        telemetry: &Arc<Telemetry>,
        receive: Option<(OperationStart, Arc<PreparedOperation>)>,
        source: SourceId,
        items: I,
        deliver: F,
    ) -> Self {
        let receive = receive.filter(|_| items.size_hint().1 != Some(0)).map(|(start, operation)| Receive {
            telemetry: telemetry.clone(),
            start: start.release_parent(),
            operation,
            answered_at: SystemTime::now(),
            delivered: Batch::default(),
        });
        Self { items, source, deliver, receive }
    }
}

impl<I, F> DeliverIter<I, F> {
    fn finish(&mut self) {
        let Some(Receive { telemetry, start, operation, answered_at, delivered }) = self.receive.take() else { return };
        telemetry.receive_batch(start, &operation, delivered).ended_at(answered_at).succeed();
    }
}

impl<I, F, M> Iterator for DeliverIter<I, F>
where
    I: Iterator,
    F: FnMut(I::Item) -> M,
    M: ReceivedMessage,
{
    type Item = M;

    fn next(&mut self) -> Option<M> {
        poll_started(self.source);
        let Some(item) = self.items.next() else {
            self.finish();
            return None;
        };
        let message = (self.deliver)(item);
        if let Some(receive) = &mut self.receive {
            receive.delivered.add(message.process_span());
        }
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<I, F> Drop for DeliverIter<I, F> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<I: fmt::Debug, F> fmt::Debug for DeliverIter<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverIter").field("items", &self.items).finish_non_exhaustive()
    }
}
