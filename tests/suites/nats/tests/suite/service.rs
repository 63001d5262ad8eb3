//! Services that answer with errors.

use futures::future::join;
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client, HeaderMap,
    otel::MessageExt,
    service::{Request, ServiceExt, error::Error},
};
use support::{Sdk, attribute, describe};

use crate::{connect, connect_with, headers, next, unique};

fn not_found() -> Error {
    Error { code: 404, status: "no such order".to_owned() }
}

/// One request, answered by this handler. The caller gets its answer as `Ok`.
async fn answered(client: &Client, handler: impl AsyncFnOnce(Request)) {
    let subject = unique("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint(&subject).await.unwrap();
    let (reply, ()) =
        join(client.request(subject, "apples?".into()), async { handler(next(&mut endpoint).await).await }).await;
    reply.expect("an answer is no error of the client's");
}

fn outcome(span: &SpanData) -> (Option<String>, Status) {
    (attribute(span, "error.type").map(ToString::to_string), span.status.clone())
}

fn failed(error_type: &str, text: &str) -> (Option<String>, Status) {
    (Some(error_type.to_owned()), Status::error(text.to_owned()))
}

const SUCCEEDED: (Option<String>, Status) = (None, Status::Unset);

/// What became of request, process and respond.
#[track_caller]
fn outcomes(sdk: &Sdk) -> [(Option<String>, Status); 3] {
    let spans = sdk.spans();
    ["request", "process", "respond"].map(|name| {
        let mut of_name = spans.iter().filter(|span| span.name.split(' ').next() == Some(name));
        let (span, more) = (of_name.next(), of_name.next());
        assert!(more.is_none(), "{}", describe(&spans));
        outcome(span.unwrap_or_else(|| panic!("no {name} in {}", describe(&spans))))
    })
}

#[tokio::test]
async fn an_error_answer_was_sent_and_fails_request_and_processing() {
    let ways: [fn(Request) -> futures::future::BoxFuture<'static, ()>; 3] = [
        |request| Box::pin(async move { request.respond(Err(not_found())).await.unwrap() }),
        |request| {
            Box::pin(
                async move { request.process(|| async { request.respond(Err(not_found())).await }).await.unwrap() },
            )
        },
        |request| {
            Box::pin(async move {
                let mut headers = HeaderMap::new();
                headers.insert("Colour", "green");
                request
                    .process(|| async { request.respond_with_headers(Err(not_found()), headers).await })
                    .await
                    .unwrap();
            })
        },
    ];
    for (way, handler) in ways.into_iter().enumerate() {
        let sdk = Sdk::new();
        let client = connect_with(sdk.all_signals_builder().build()).await;
        answered(&client, async |request| handler(request).await).await;
        let failed = failed("404", "no such order");
        assert_eq!(outcomes(&sdk), [failed.clone(), failed, SUCCEEDED], "way {way}");
        let (measured, events) = (sdk.measured(), sdk.events());
        let durations = |name: &str| {
            let line = measured.lines().find(|line| line.contains(name) && line.contains("duration"));
            line.unwrap_or_else(|| panic!("{name} in {measured}")).contains("error.type = \"404\"")
        };
        assert!(durations("\"request\""), "{measured}");
        assert!(!durations("\"respond\""), "{measured}");
        assert!(durations("messaging.process.duration"), "{measured}");
        assert_eq!(events.matches("no such order").count(), 2, "{events}");
    }
}

#[tokio::test]
async fn a_handlers_own_error_goes_before_that_of_its_answer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    answered(&client, async |request| {
        let handled = request.process(|| async {
            request.respond(Err(not_found())).await.unwrap();
            Err::<(), _>("out of apples")
        });
        handled.await.unwrap_err();
    })
    .await;
    assert_eq!(outcomes(&sdk), [failed("404", "no such order"), failed("&str", "out of apples"), SUCCEEDED]);
}

#[tokio::test]
async fn the_first_error_answer_counts_and_none_after_the_end() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    answered(&client, async |request| {
        let again = Error { code: 500, status: "again".to_owned() };
        let both = async {
            request.respond(Err(not_found())).await?;
            request.respond(Err(again)).await
        };
        request.process(|| both).await.unwrap();
    })
    .await;
    let spans = sdk.spans();
    let process = spans.iter().find(|span| span.name.starts_with("process")).unwrap();
    assert_eq!(outcome(process), failed("404", "no such order"));
    sdk.forget();

    answered(&client, async |request| {
        request.process(|| async {}).await;
        request.respond(Err(not_found())).await.unwrap();
    })
    .await;
    assert_eq!(outcomes(&sdk), [failed("404", "no such order"), SUCCEEDED, SUCCEEDED]);
}

#[tokio::test]
async fn a_code_that_is_not_one_to_five_digits_is_other() {
    let codes = [(0, "0"), (7, "7"), (99_999, "99999"), (100_000, "_OTHER"), (usize::MAX, "_OTHER")];
    for (code, error_type) in codes {
        let sdk = Sdk::new();
        let client = connect(&sdk).await;
        let error = Error { code, status: "no".to_owned() };
        answered(&client, async |request| {
            request.process(|| async { request.respond(Err(error)).await }).await.unwrap()
        })
        .await;
        assert_eq!(outcomes(&sdk), [failed(error_type, "no"), failed(error_type, "no"), SUCCEEDED]);
    }
}

/// As the services of other languages do, and those that only look like one.
#[tokio::test]
async fn a_service_that_is_not_ours_says_by_its_headers_that_it_failed() {
    let (code, text) = ("Nats-Service-Error-Code", "Nats-Service-Error");
    let answers = [
        (headers(&[(code, "503"), (text, "overloaded")]), Some(("503", "overloaded"))),
        (
            headers(&[("nats-service-error-code", "503"), ("nats-service-error", "overloaded")]),
            Some(("503", "overloaded")),
        ),
        (headers(&[(code, "order 4711 is gone"), (text, "gone")]), Some(("_OTHER", "gone"))),
        (headers(&[(code, "50\u{661}")]), Some(("_OTHER", ""))),
        (headers(&[(code, "-1"), (text, "negative")]), Some(("_OTHER", "negative"))),
        (headers(&[(text, "no code")]), Some(("_OTHER", "no code"))),
        (headers(&[("Colour", "green")]), None),
    ];
    for (headers, expected) in answers {
        let sdk = Sdk::new();
        let client = connect(&sdk).await;
        let raw = client.get_ref().clone();
        let subject = unique("stock");
        let mut asked = raw.subscribe(subject.clone()).await.unwrap();
        let answer = async {
            let reply = next(&mut asked).await.reply.unwrap();
            raw.publish_with_headers(reply, headers.clone(), "".into()).await.unwrap();
        };
        let (reply, ()) = join(client.request(subject, "apples?".into()), answer).await;
        reply.expect("an answer is no error of the client's");
        let spans = sdk.spans();
        let [request] = &spans[..] else { panic!("{}", describe(&spans)) };
        let expected = expected.map_or(SUCCEEDED, |(error_type, text)| failed(error_type, text));
        assert_eq!(outcome(request), expected, "{headers:?}");
    }
}
