//! Scenarios that only NATS has: subjects, requests and services.

use std::collections::HashMap;

use opentelemetry::trace::TraceContextExt;
use otel_async_nats::{
    HeaderMap, Subscriber,
    otel::MessageExt,
    service::{self, ServiceExt, endpoint::Endpoint},
};

use super::client::{Nats, identified};
use crate::{
    client::Client,
    scenario::{Performed, performed},
    scenarios::{correlation::context_read, next, send_and_process},
    stage::Stage,
};

pub(super) const ALL: &[Performed] = performed! {
    context_read::<Nats>, publish_and_process, publish_fails, publish_with_id, wildcard_in_group, request_and_reply,
    request_fails, service, respond_fails, service_error, answered, captured_response, inbox, anonymous_subject,
    renamed_forwarded, captured
};

/// Far more than the server allows.
const TOO_MUCH: usize = 8 * 1024 * 1024;

async fn publish_and_process(stage: Stage) {
    send_and_process::<Nats>(stage).await;
}

async fn publish_fails(stage: Stage) {
    let nats = Nats::of(&stage).await;
    nats.connection.publish(nats.subject, vec![0; TOO_MUCH].into()).await.expect_err("too large");
}

async fn publish_with_id(stage: Stage) {
    let nats = Nats::of(&stage).await;
    nats.receive_with(1, Nats::headers([("Nats-Msg-Id", "17")])).await[0].end();
}

async fn wildcard_in_group(stage: Stage) {
    let Nats { connection, subject } = Nats::of(&stage).await;
    let group = connection.queue_subscribe(format!("{subject}.*"), "payment".to_owned());
    let mut orders = group.await.expect("subscribed");
    connection.publish(format!("{subject}.4711"), "".into()).await.expect("published");
    next(&mut orders).await.process(|| async {}).await;
}

/// Answers the next request where it asks.
async fn answer(nats: &Nats, requests: &mut Subscriber) {
    let question = next(requests).await;
    let inbox = question.reply.clone().expect("a subject for the answer");
    question.process(|| async { nats.connection.publish(inbox, "four".into()).await }).await.expect("published");
}

async fn request_and_reply(stage: Stage) {
    let nats = Nats::on(&stage, "stock", stage.instrumentation()).await;
    let mut stock = nats.subscribe().await;
    let order = stage.app("order");
    let request = order.calls(|| nats.connection.request(nats.subject.clone(), "apples?".into()));
    let (reply, ()) = tokio::join!(request, answer(&nats, &mut stock));
    reply.expect("a reply");
}

async fn request_fails(stage: Stage) {
    Nats::fail(&stage, stage.instrumentation()).await;
}

async fn endpoint(nats: &Nats) -> (service::Service, Endpoint) {
    let service = nats.connection.service_builder().start("stock", "1.0.0").await.expect("started");
    let endpoint = service.endpoint(&nats.subject).await.expect("added");
    (service, endpoint)
}

async fn service(stage: Stage) {
    respond(stage, "four".into()).await;
}

async fn respond_fails(stage: Stage) {
    respond(stage, vec![0; TOO_MUCH]).await;
}

async fn respond(stage: Stage, response: Vec<u8>) {
    let nats = Nats::on(&stage, "stock", stage.instrumentation()).await;
    let (_service, mut endpoint) = endpoint(&nats).await;
    let answer = async {
        let request = next(&mut endpoint).await;
        if request.process(|| async { request.respond(Ok(response.into())).await }).await.is_err() {
            // The requester waits for some answer.
            let reply = request.message.reply.clone().expect("a request");
            nats.connection.get_ref().publish(reply, "".into()).await.expect("published");
        }
    };
    let (reply, ()) = tokio::join!(nats.connection.request(nats.subject.clone(), "apples?".into()), answer);
    reply.expect("a reply");
}

async fn service_error(stage: Stage) {
    let nats = Nats::on(&stage, "stock", stage.instrumentation()).await;
    let (_service, mut endpoint) = endpoint(&nats).await;
    let answer = async {
        let request = next(&mut endpoint).await;
        let error = service::error::Error { code: 404, status: "no such order".to_owned() };
        request.process(|| async { request.respond(Err(error)).await }).await.expect("sent");
    };
    let (reply, ()) = tokio::join!(nats.connection.request(nats.subject.clone(), "apples?".into()), answer);
    reply.expect("a reply");

    let (raw, subject) = (nats.connection.get_ref(), stage.name("prices"));
    let mut prices = raw.subscribe(subject.clone()).await.expect("subscribed");
    let answer = async {
        let error = [("Nats-Service-Error-Code", "order 4711 is gone"), ("Nats-Service-Error", "gone")];
        let reply = next(&mut prices).await.reply.expect("a request");
        raw.publish_with_headers(reply, Nats::headers(error), "".into()).await.expect("published");
    };
    let (reply, ()) = tokio::join!(nats.connection.request(subject, "apples?".into()), answer);
    reply.expect("a reply");
}

async fn answered(stage: Stage) {
    let nats = Nats::on(&stage, "stock", stage.instrumentation()).await;
    let mut stock = nats.subscribe().await;
    let (raw, answers) = (nats.connection.get_ref(), stage.name("answers"));
    raw.publish_with_reply(nats.subject.clone(), answers, "apples?".into()).await.expect("published");
    answer(&nats, &mut stock).await;
}

async fn capturing(stage: &Stage, subject: &str) -> Nats {
    let builder = stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true);
    Nats::on(stage, subject, builder.build()).await
}

async fn captured_response(stage: Stage) {
    let nats = capturing(&stage, "stock").await;
    let (_service, mut endpoint) = endpoint(&nats).await;
    let question = nats.connection.request_with_headers(nats.subject.clone(), identified("17"), "apples?".into());
    let answer = async {
        let request = next(&mut endpoint).await;
        let respond = async { request.respond_with_headers(Ok("four".into()), identified("18")).await };
        request.process(|| respond).await.expect("published");
    };
    let (reply, ()) = tokio::join!(question, answer);
    reply.expect("a reply");
}

async fn inbox(stage: Stage) {
    let nats = Nats::of(&stage).await;
    Nats { subject: nats.connection.new_inbox(), ..nats }.receive(1).await[0].end();
}

async fn anonymous_subject(stage: Stage) {
    let nats = Nats { subject: stage.uuid(), ..Nats::of(&stage).await };
    for made_for in [&nats.connection.new_inbox(), &nats.subject] {
        Nats::create(stage.instrumentation(), made_for, &mut HashMap::new());
    }
    nats.receive(1).await[0].end();
}

async fn renamed_forwarded(stage: Stage) {
    let nats = Nats::of(&stage).await;
    let onwards = stage.name("shipping");
    let mut orders = nats.messages().await;
    let mut shipping = nats.connection.subscribe(onwards.clone()).await.expect("subscribed");
    let sender = stage.app("sender");
    let span = sender.0.span().span_context().clone();
    let mut headers = HeaderMap::new();
    headers.insert("Xraceparent", format!("00-{}-{}-01", span.trace_id(), span.span_id()));
    let raw = nats.connection.get_ref();
    raw.publish_with_headers(nats.subject.clone(), headers, "".into()).await.expect("published");
    let order = next(&mut orders).await;
    order.process(|| nats.send(&onwards, Nats::headers_of(&order))).await;
    let arrived = next(&mut shipping).await;
    let names = arrived.headers.as_ref().expect("a context").iter().map(|(name, _)| name.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["traceparent"]);
    arrived.end();
}

async fn captured(stage: Stage) {
    let nats = capturing(&stage, "orders").await;
    let mut orders = nats.subscribe().await;
    let headers = Nats::headers([("x-tenant", "blue")]);
    let request = nats.connection.request_with_headers(nats.subject.clone(), headers.clone(), "apples?".into());
    let (reply, ()) = tokio::join!(request, answer(&nats, &mut orders));
    reply.expect("a reply");
    nats.send(&nats.subject, headers).await;
    next(&mut orders).await.end();
}
