//! Handlers that end in async-nats' own errors: they are recorded, and nothing of the message is shown with them.

use std::fmt;

use futures::stream;
use opentelemetry::trace::Status;
use otel_async_nats::{
    Client, RequestError,
    jetstream::{self, context},
    otel::{MessageExt, MessageStreamExt, process_batch},
};
use support::{Sdk, attribute as value_of};
use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    connect_with,
    sources::{ALL, Opened, SECRET, Source, Taken, take},
    unique,
};

/// How a handler that fails is run.
#[derive(Debug, Clone, Copy)]
enum Run {
    Process,
    InScope,
    Batch,
    Each,
}

const RUNS: [Run; 4] = [Run::Process, Run::InScope, Run::Batch, Run::Each];

/// Sends what arrived onward, to nobody.
async fn forward(client: &Client, message: &Taken) -> Result<(), RequestError> {
    client.request_with_headers(unique("nobody"), message.headers(), SECRET.into()).await.map(drop)
}

/// Waits for a stream to store what arrived, which there is none to do.
async fn store(client: &Client, message: &Taken) -> Result<(), context::PublishError> {
    let context = jetstream::new(client.clone());
    let stored = context.publish_with_headers(unique("nobody"), message.headers(), SECRET.into()).await?;
    stored.await.map(drop)
}

/// The same error where it is any of the client's.
async fn store_somehow(client: &Client, message: &Taken) -> Result<(), otel_async_nats::Error> {
    Ok(store(client, message).await?)
}

/// Handles a message with something that fails. Its text is told, with that name, and nothing of what is in the message.
async fn check<E: fmt::Display>(
    source: Source,
    run: Run,
    error_type: &'static str,
    handler: impl AsyncFn(&Client, &Taken) -> Result<(), E>,
) {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().build();
    let client = connect_with(instrumentation.clone()).await;
    let Opened { mut messages, subject, .. } = source.open(&client, 1, &instrumentation).await;
    let message = take(&mut messages).await;
    let mut failed = None;
    let work = async {
        failed = match run {
            Run::Process => message.process(|| handler(&client, &message)).await.err().map(|error| error.to_string()),
            Run::InScope => {
                let outcome = handler(&client, &message).await;
                message.in_scope(|| outcome).err().map(|error| error.to_string())
            }
            Run::Batch => {
                let messages = [message];
                let handled = process_batch(&messages, || handler(&client, &messages[0])).await;
                handled.err().map(|error| error.to_string())
            }
            Run::Each => {
                let mut failed = None;
                let each = stream::iter([message])
                    .process_each(1, async |message| handler(&client, &message).await)
                    .on_outcome(|outcome| failed = outcome.as_ref().err().map(ToString::to_string));
                each.await;
                failed
            }
        };
    };
    let heard = block_in_place(|| support::heard(|| Handle::current().block_on(work)));
    let error = failed.expect("nobody is there");

    let spans = sdk.spans();
    let name = format!("process {subject}");
    let process: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [process] = process[..] else { panic!("{source:?}, {run:?}: {}", sdk.described()) };
    assert_eq!(value_of(process, "error.type"), Some(&error_type.into()), "{source:?}, {run:?}");
    assert_eq!(process.status, Status::error(error), "{source:?}, {run:?}");
    assert!(sdk.events().contains("messaging.process.exception"), "{source:?}, {run:?}");
    // The client itself logs what it is given.
    let ours: String = heard.lines().filter(|line| !line.contains(" async_nats")).collect();
    let recorded = sdk.everything() + &ours;
    assert!(!recorded.contains(SECRET), "{source:?}, {run:?}: {recorded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_client_error_is_recorded_without_the_message() {
    let requested = "async_nats::error::Error<async_nats::client::RequestErrorKind>";
    for source in ALL {
        for run in RUNS {
            check(source, run, requested, forward).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_client_s_errors_is_called_by_its_type() {
    let stored = "async_nats::error::Error<async_nats::jetstream::context::PublishErrorKind>";
    let any = "alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>";
    for run in RUNS {
        check(Source::Pull, run, stored, store).await;
        check(Source::Pull, run, any, store_somehow).await;
    }
}
