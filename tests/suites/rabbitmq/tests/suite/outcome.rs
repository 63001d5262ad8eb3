//! Handlers that end in lapin's own error: it is recorded, and nothing of the message is shown with it.

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicPublishOptions},
};
use opentelemetry::trace::Status;
use otel_lapin::{
    Confirmation,
    message::Delivery,
    otel::{MessageExt, MessageStreamExt, process_batch},
};
use support::attribute as value_of;
use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    harness::{Rabbit, long, named, table},
    sources::{ASKED, Opened, take},
};

/// In the payload, in a header's name and in its value.
const SECRET: &str = "card-4711";

/// How a handler that fails is run.
#[derive(Debug, Clone, Copy)]
enum Run {
    Process,
    InScope,
    Batch,
    Each,
}

/// Sends what arrived onward, through a channel that is closed.
async fn forward(rabbit: &Rabbit, message: &Delivery) -> Result<Confirmation, lapin::Error> {
    let (options, properties) = (BasicPublishOptions::default(), message.properties.clone());
    rabbit.channel.basic_publish("".into(), "onward".into(), options, &message.data, properties).await?.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_lapin_error_is_recorded_without_the_message() {
    for source in ASKED {
        for run in [Run::Process, Run::InScope, Run::Batch, Run::Each] {
            let mut rabbit = Rabbit::with_all_signals().await;
            let queue = rabbit.queue("orders").await;
            let headers = table([("x-card-4711", long(SECRET))]);
            let properties = BasicProperties::default().with_headers(headers);
            rabbit.publish_raw(&queue, SECRET.as_bytes(), properties).await;
            let Opened { mut messages, .. } = source.open(&rabbit, &queue).await;
            let message = take(&mut messages).await;
            let acker = message.acker.clone();
            rabbit.channel = rabbit.connection.create_channel().await.unwrap();
            rabbit.channel.close(200, "bye".into()).await.unwrap();

            let mut failed = None;
            let work = async {
                failed = match run {
                    Run::Process => message.process(|| forward(&rabbit, &message)).await.err(),
                    Run::InScope => {
                        let forwarded = forward(&rabbit, &message).await;
                        message.in_scope(|| forwarded).err()
                    }
                    Run::Batch => {
                        let messages = [message];
                        process_batch(&messages, || forward(&rabbit, &messages[0])).await.err()
                    }
                    Run::Each => {
                        let (mut error, one) = (None, futures::stream::iter([message]));
                        let each = one.process_each(1, async |message| forward(&rabbit, &message).await);
                        each.on_outcome(|outcome| error = outcome.as_ref().err().cloned()).await;
                        error
                    }
                };
            };
            let heard = block_in_place(|| support::heard(|| Handle::current().block_on(work)));
            acker.ack(BasicAckOptions::default()).await.unwrap();
            let error = failed.expect("the channel is closed");

            let spans = rabbit.sdk.spans();
            let [process] = named(&spans, &format!("process {queue}"))[..] else { panic!("{}", rabbit.described()) };
            assert_eq!(value_of(process, "error.type"), Some(&"lapin::error::Error".into()), "{source:?}, {run:?}");
            assert_eq!(process.status, Status::error(error.to_string()), "{source:?}, {run:?}");
            assert!(rabbit.sdk.events().contains("messaging.process.exception"), "{source:?}, {run:?}");
            // lapin itself logs what it is given.
            let ours: String = heard.lines().filter(|line| !line.contains(" lapin")).collect();
            let recorded = rabbit.sdk.everything() + &ours;
            assert!(!recorded.contains(SECRET), "{source:?}, {run:?}: {recorded}");
        }
    }
}
