//! Handlers that end in the client's own error: it is recorded, and nothing of the message is shown with it.

use std::fmt;

use futures::stream;
use opentelemetry::trace::Status;
use otel_messaging::{MessageExt, MessageStreamExt, process_batch};
use support::attribute;
use tokio::{runtime::Handle, task::block_in_place};

use crate::{Broker, Received, SECRET, asked, opened, processed, take};

/// How a handler that fails is run.
#[derive(Debug, Clone, Copy)]
enum Run {
    Process,
    InScope,
    Batch,
    Each,
}

pub async fn a_handlers_client_error_is_recorded_without_the_message<B: Broker>() {
    let handler =
        async |broker: &B, message: &B::Message<'_>| broker.send_in_vain(&message.headers(), &message.payload()).await;
    for source in asked::<B>() {
        check::<B, _>(source, B::ERROR_TYPE, handler).await;
    }
}

/// Holds that the error of a handler is recorded by this type, and nothing of its message.
pub async fn check<B: Broker, E: fmt::Display>(
    source: B::Source,
    error_type: &'static str,
    handler: impl AsyncFn(&B, &B::Message<'_>) -> Result<(), E>,
) {
    for run in [Run::Process, Run::InScope, Run::Batch, Run::Each] {
        check_run(source, run, error_type, &handler).await;
    }
}

async fn check_run<B: Broker, E: fmt::Display>(
    source: B::Source,
    run: Run,
    error_type: &'static str,
    handler: impl AsyncFn(&B, &B::Message<'_>) -> Result<(), E>,
) {
    let (sdk, broker, destination, receiver) = opened::<B>(source, &[(&[(SECRET, SECRET)], SECRET)]).await;
    let message = take::<B>(&mut B::messages(&receiver)).await;
    let mut failed = None;
    let work = async {
        failed = match run {
            Run::Process => message.process(|| handler(&broker, &message)).await.err().map(|error| error.to_string()),
            Run::InScope => {
                let outcome = handler(&broker, &message).await;
                message.in_scope(|| outcome).err().map(|error| error.to_string())
            }
            Run::Batch => {
                let messages = [message];
                process_batch(&messages, || handler(&broker, &messages[0])).await.err().map(|error| error.to_string())
            }
            Run::Each => {
                let mut failed = None;
                let each = stream::iter([message])
                    .process_each(1, async |message| handler(&broker, &message).await)
                    .on_outcome(|outcome| failed = outcome.as_ref().err().map(ToString::to_string));
                each.await;
                failed
            }
        };
    };
    let heard = block_in_place(|| support::heard(|| Handle::current().block_on(work)));
    let error = failed.expect("it cannot be sent");

    let [process] = &processed(&sdk, &destination)[..] else { panic!("{source:?}, {run:?}: {}", sdk.described()) };
    assert_eq!(attribute(process, "error.type"), Some(&error_type.into()), "{source:?}, {run:?}");
    assert_eq!(process.status, Status::error(error), "{source:?}, {run:?}");
    assert!(sdk.events().contains("messaging.process.exception"), "{source:?}, {run:?}");
    // The client itself logs what it is given.
    let ours: String = heard.lines().filter(|line| !line.contains(B::LOGGED_BY_CLIENT)).collect();
    let recorded = sdk.everything() + &ours;
    assert!(!recorded.contains(SECRET), "{source:?}, {run:?}: {recorded}");
}
