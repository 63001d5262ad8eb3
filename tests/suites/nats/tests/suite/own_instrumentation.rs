//! Each wrapper has an instrumentation of its own, and hands it on.

use opentelemetry::{SpanId, trace::SpanKind};
use otel_async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{pull, push},
    },
    otel::{Correlation, Instrumentation},
    service::ServiceExt,
};
use support::Sdk;

use crate::{connect, next, stream_of, unique};

/// A client for each test here, which must never see what its wrappers report elsewhere.
struct Elsewhere {
    client: Client,
    of_client: Sdk,
    sdk: Sdk,
}

impl Elsewhere {
    async fn new() -> Self {
        let of_client = Sdk::new();
        Self { client: connect(&of_client).await, of_client, sdk: Sdk::new() }
    }

    /// Only links, where the client's own would be children.
    fn instrumentation(&self) -> Instrumentation {
        self.sdk.instrumentation_builder().with_correlation(Correlation::Link).build()
    }

    /// What is reported, without destinations; process spans have to be roots.
    fn recorded(&self) -> (Vec<String>, Vec<String>) {
        let names = |sdk: &Sdk| {
            let spans = sdk.spans();
            let processes = spans.iter().filter(|span| span.span_kind == SpanKind::Consumer);
            assert!(processes.clone().all(|span| span.parent_span_id == SpanId::INVALID && span.links.len() == 1));
            let mut names: Vec<_> =
                spans.iter().map(|span| span.name.split(' ').next().unwrap_or_default().to_owned()).collect();
            names.sort();
            names
        };
        (names(&self.of_client), names(&self.sdk))
    }
}

#[tokio::test]
async fn a_subscription_has_an_instrumentation_of_its_own() {
    let here = Elsewhere::new().await;
    let subject = unique("orders");
    let mut orders = here.client.subscribe(subject.clone()).await.unwrap().with_instrumentation(here.instrumentation());
    here.client.publish(subject, "1".into()).await.unwrap();
    drop(next(&mut orders).await);
    assert_eq!(here.recorded(), (vec!["publish".to_owned()], vec!["process".to_owned()]));
}

#[tokio::test]
async fn every_jetstream_type_has_one_and_passes_it_on() {
    let one = pull::Config::default;
    let pushed = || push::Config { deliver_subject: unique("deliver"), ..Default::default() };
    for wrapper in ["stream", "consumer", "messages", "batch", "sequence", "pushed", "ordered", "ordered pushed"] {
        let here = Elsewhere::new().await;
        let with = here.instrumentation();
        let context = jetstream::new(here.client.clone());
        let (stream, name) = stream_of(&context).await;
        context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
        let fetches = match wrapper {
            "stream" => {
                let consumer = stream.with_instrumentation(with).create_consumer(one()).await.unwrap();
                acknowledge(&mut consumer.fetch().messages().await.unwrap()).await;
                true
            }
            "consumer" => {
                let consumer = stream.create_consumer(one()).await.unwrap().with_instrumentation(with);
                acknowledge(&mut consumer.fetch().messages().await.unwrap()).await;
                true
            }
            "messages" => {
                let messages = stream.create_consumer(one()).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            "batch" => {
                let batch = stream.create_consumer(one()).await.unwrap().fetch().messages().await.unwrap();
                acknowledge(&mut batch.with_instrumentation(with)).await;
                true
            }
            "sequence" => {
                let sequence = stream.create_consumer(one()).await.unwrap().sequence(1).unwrap();
                let mut batch = next(&mut sequence.with_instrumentation(with)).await.unwrap();
                acknowledge(&mut batch).await;
                true
            }
            "pushed" => {
                let messages = stream.create_consumer(pushed()).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            "ordered" => {
                let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
                let messages = consumer.messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            _ => {
                let config = push::OrderedConfig { deliver_subject: unique("deliver"), ..Default::default() };
                let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
        };
        let mut expected = vec!["ack".to_owned(), "process".to_owned()];
        expected.extend(fetches.then(|| "fetch".to_owned()));
        expected.sort();
        assert_eq!(here.recorded(), (vec!["publish".to_owned()], expected), "{wrapper}");
    }
}

/// Takes one message and settles it; a batch ends with it.
async fn acknowledge<S, E>(messages: &mut S)
where
    S: futures::Stream<Item = Result<jetstream::Message, E>> + Unpin,
    E: std::fmt::Debug,
{
    let message = next(messages).await.unwrap();
    message.ack().await.unwrap();
}

#[tokio::test]
async fn services_groups_and_endpoints_have_one_and_pass_it_on() {
    for wrapper in ["service", "group", "endpoint"] {
        let here = Elsewhere::new().await;
        let with = here.instrumentation();
        let prefix = unique("stock");
        let service = here.client.service_builder().start("stock", "1.0.0").await.unwrap();
        let (service, group) = match wrapper {
            "service" => (service.with_instrumentation(with.clone()), None),
            _ => (service, Some(with)),
        };
        let grouped = service.group(&prefix);
        let mut endpoint = match (wrapper, group) {
            ("group", Some(with)) => grouped.with_instrumentation(with).endpoint("count").await.unwrap(),
            (_, Some(with)) => grouped.endpoint("count").await.unwrap().with_instrumentation(with),
            (_, None) => grouped.endpoint("count").await.unwrap(),
        };
        let (reply, ()) = futures::join!(here.client.request(format!("{prefix}.count"), "apples?".into()), async {
            next(&mut endpoint).await.respond(Ok("four".into())).await.unwrap();
        });
        assert_eq!(reply.unwrap().payload, "four");
        let expected = vec!["process".to_owned(), "respond".to_owned()];
        assert_eq!(here.recorded(), (vec!["request".to_owned()], expected), "{wrapper}");
    }
}
