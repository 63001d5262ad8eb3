//! A message that is sent where the one being processed wants its answer.

use std::thread;

use futures::stream;

use crate::queue::*;

/// A queue and what is sent there.
struct Service {
    requests: Queue,
    answers: Queue,
}

impl Service {
    fn new(instrumentation: Instrumentation) -> Self {
        Self { requests: Queue::new(instrumentation.clone()), answers: Queue::new(instrumentation) }
    }

    /// A request without a context: its answers go to this address.
    fn request(&mut self, reply_to: &str) -> Message {
        self.requests.messages.push_back((HeaderMap::default(), "1".to_owned()));
        self.requests.pop_as("requests", |arrival| arrival.reply_to(reply_to)).unwrap()
    }

    fn send(&mut self, destination: &str) {
        self.answers.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
}

/// Processes a request.
type Way = fn(&mut Service);

/// The names of the spans of what was sent.
fn sent(sdk: &Sdk) -> Vec<String> {
    sdk.names().into_iter().filter(|name| name.starts_with("push")).collect()
}

#[test]
fn an_answer_to_the_message_being_processed_goes_to_a_temporary_destination() {
    let sdk = Sdk::new();
    let mut service = Service::new(sdk.instrumentation());
    let request = service.request("replies.4711");
    request.in_scope(|| {
        service.send("replies.4711");
        service.send("replies.47110");
    });
    drop(request);
    let request = operation("process", OperationType::Process, "requests").message_id("1");
    let answer = push_to("replies.4711").named("push").attribute("messaging.destination.temporary", true);
    sdk.assert([request, answer.child_of(0), push_to("replies.47110").child_of(0)]);
}

#[test]
fn an_answer_is_known_in_whatever_way_its_request_is_processed() {
    let ways: [(&str, Way); 8] = [
        ("process", |service| {
            let request = service.request("replies.1");
            block_on(request.process(|| async {
                yield_now().await;
                service.send("replies.1");
            }));
        }),
        ("in_scope", |service| service.request("replies.1").in_scope(|| service.send("replies.1"))),
        ("process_each", |service| {
            let requests = [service.request("replies.1")];
            block_on(stream::iter(requests).process_each(1, |_| {
                service.send("replies.1");
                async {}
            }));
        }),
        ("process_batch", |service| {
            let requests = ["replies.2", "", "replies.1", "replies.3"].map(|reply_to| service.request(reply_to));
            block_on(process_batch(&requests, || async {
                yield_now().await;
                service.send("replies.1");
            }));
        }),
        ("a message of a batch", |service| {
            let requests = ["replies.2", "replies.1"].map(|reply_to| service.request(reply_to));
            block_on(process_batch(&requests, || async { requests[1].in_scope(|| service.send("replies.1")) }));
        }),
        ("sequential", |service| {
            block_on(sequential(async {
                let _request = service.request("replies.1");
                yield_now().await;
                service.send("replies.1");
            }));
        }),
        ("otel_context", |service| {
            let context = service.request("replies.1").otel_context();
            let elsewhere = || {
                let _attached = context.attach();
                service.send("replies.1");
            };
            thread::scope(|threads| threads.spawn(elsewhere).join().unwrap());
        }),
        ("republish", |service| {
            let request = service.request("replies.1");
            request.republish(|| service.send("replies.1"));
        }),
    ];
    for (way, process) in ways {
        let sdk = Sdk::new();
        let mut service = Service::new(sdk.instrumentation());
        process(&mut service);
        // It ends there.
        service.send("replies.1");
        assert_eq!(sent(&sdk), ["push", "push replies.1"], "{way}");
    }
}

#[test]
fn a_request_that_a_filter_turns_off_has_answers_like_any_other() {
    let sdk = Sdk::new();
    let builder = sdk.instrumentation_builder().with_filter(|operation| operation.destination() != Some("requests"));
    let mut service = Service::new(builder.build());
    service.request("replies.1").in_scope(|| service.send("replies.1"));
    assert_eq!(sent(&sdk), ["push"]);
}

#[test]
fn the_message_that_is_processed_innermost_says_where_answers_go() {
    let sdk = Sdk::new();
    let mut service = Service::new(sdk.instrumentation());
    let [one, other] = ["replies.1", "replies.2"].map(|reply_to| service.request(reply_to));
    let without = service.request("");
    one.in_scope(|| {
        other.in_scope(|| ["replies.1", "replies.2"].into_iter().for_each(|address| service.send(address)));
        without.in_scope(|| ["replies.1", ""].into_iter().for_each(|address| service.send(address)));
        service.send("replies.1");
    });
    assert_eq!(sent(&sdk), ["push replies.1", "push", "push replies.1", "push ", "push"]);
}

#[test]
fn answers_take_no_place_among_the_destinations_that_are_shown() {
    let sdk = Sdk::new();
    let mut service = Service::new(sdk.all_signals_builder().with_destination_limit(2).build());
    for client in 0..10 {
        let address = format!("replies.{client}");
        service.request(&address).in_scope(|| service.send(&address));
    }
    service.send("orders");
    let (shown, answers) = sent(&sdk).into_iter().partition::<Vec<_>, _>(|name| name != "push");
    assert_eq!((shown, answers.len()), (vec!["push orders".to_owned()], 10));
    let measured = sdk.measured();
    assert!(!measured.contains("replies."), "{measured}");
    assert!(measured.contains("orders"), "{measured}");
}

#[test]
fn an_answer_without_a_tracer_is_measured_without_its_address() {
    for around in [SpanContext::NONE, sender()] {
        let sdk = Sdk::new();
        let builder = Instrumentation::builder().with_meter_provider(sdk.meter_provider()).with_spans(false);
        let mut service = Service::new(builder.build());
        let _around = Context::new().with_remote_span_context(around).attach();
        service.request("replies.1").in_scope(|| service.send("replies.1"));
        let batch = ["replies.2", "replies.3"].map(|reply_to| service.request(reply_to));
        block_on(process_batch(&batch, || async { service.send("replies.3") }));
        let measured = sdk.measured();
        assert!(measured.contains("messaging.client.sent.messages") && !measured.contains("replies."), "{measured}");
    }
}

#[test]
fn an_answer_is_named_by_the_user_s_template_where_there_is_one() {
    let sdk = Sdk::new();
    let template = |name: &str| name.starts_with("replies.").then(|| "replies.{client}".to_owned());
    let mut service = Service::new(sdk.instrumentation_builder().with_destination_template(template).build());
    for address in ["replies.1", "replies.2", "others.1"] {
        service.request(address).in_scope(|| service.send(address));
    }
    assert_eq!(sent(&sdk), ["push replies.{client}", "push replies.{client}", "push"]);
}

#[test]
fn a_send_to_an_address_that_answers_nothing_keeps_its_name() {
    let sdk = Sdk::new();
    let mut service = Service::new(sdk.instrumentation());
    service.send("replies");
    service.request("replies").in_scope(|| service.send("replies"));
    service.send("replies");
    assert_eq!(sent(&sdk), ["push replies", "push", "push replies"]);
}
