//! Beside `tracing` and tracing-opentelemetry. In a test program of its own: the clients' tasks know the global subscriber only.

use std::sync::OnceLock;

use opentelemetry::{SpanId, trace::TracerProvider};
use otel_messaging::MessageExt;
use support::{Sdk, describe};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

use crate::{Broker, PLAIN, Received, WAYS, current, ids, named, parents, processed, sent, take, turn};

/// The SDK of this process's subscriber.
pub fn installed() -> Sdk {
    static SDK: OnceLock<Sdk> = OnceLock::new();
    let install = || {
        let sdk = Sdk::new();
        let layer = tracing_opentelemetry::layer().with_tracer(sdk.provider().tracer("app"));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        sdk
    };
    SDK.get_or_init(install).clone()
}

pub async fn a_span_closed_while_its_message_is_kept_is_its_parent<B: Broker>() {
    let sdk = installed();
    let onward = B::connect(&sdk.instrumentation()).await;
    for (has_span, way) in WAYS {
        let broker = B::connect(&way(sdk.instrumentation_builder()).build()).await;
        for &source in B::SOURCES {
            let [from, to, packed] = [(); 3].map(|()| broker.destination());
            let (from, to, packed) = (from.await, to.await, packed.await);
            let own = |name: &str| format!("{name} {from}");
            let caller = info_span!("caller", otel.name = own("caller"));
            let receiver = broker.open(source, &from, &[PLAIN; 2]).instrument(caller.clone()).await;
            let opened = async {
                let mut messages = B::messages(&receiver);
                let first = take::<B>(&mut messages).await;
                (messages, first)
            };
            let (mut messages, kept) = opened.instrument(caller).await;
            assert_eq!(named(&sdk, &own("caller")).len(), 1, "{source:?}: it has closed");
            let again = info_span!("caller", otel.name = own("second caller"));
            let message = take::<B>(&mut messages).instrument(again).await;
            let handler = async {
                turn().await;
                onward.send(&to, &[], "1").await;
                let pack = info_span!("pack", otel.name = own("pack"));
                pack.in_scope(|| onward.send(&packed, &[], "1")).await;
                drop(pack);
                Some(current())
            };
            let of_message = message.process(|| handler).await.unwrap();
            message.settle().await;
            let given_away = message.otel_context();
            let later = || info_span!("pack", otel.name = own("later")).in_scope(|| Some(current()));
            let inside_later = kept.in_scope(later).unwrap();
            info_span!("audit")
                .in_scope(|| kept.in_scope(|| info_span!("note", otel.name = own("note")).in_scope(|| ())));
            drop((kept, message, given_away, messages));

            let case = || format!("{source:?}, {has_span}: {}", describe(&sdk.spans()));
            let one = |name: &str| ids(&named(&sdk, &own(name)));
            let parents_of = |name: &str| parents(&named(&sdk, &own(name)));
            // The client calls a delegate outside of all spans.
            let inside = |name: &str| if B::is_asked(source) { one(name) } else { vec![SpanId::INVALID] };
            let around = [inside("caller"), inside("second caller")].concat();
            assert_eq!(one("later"), [inside_later], "{}", case());
            let handlers = [parents_of("later"), vec![of_message]].concat();
            if has_span {
                let mut process = processed(&sdk, &from);
                process.sort_by_key(|span| handlers.iter().position(|id| *id == span.span_context.span_id()));
                assert_eq!((ids(&process), parents(&process)), (handlers.clone(), around), "{}", case());
                assert_eq!(parents_of("note"), handlers[..1], "{}", case());
            } else {
                assert_eq!(handlers, around, "{}", case());
            }
            assert_eq!(parents_of("pack"), [of_message], "{}", case());
            assert_eq!(parents(&sent::<B>(&sdk, &to)), [of_message], "{}", case());
            assert_eq!(parents(&sent::<B>(&sdk, &packed)), one("pack"), "{}", case());
            if let Some(settlement) = B::settlement(source, &from) {
                let settled = parents(&named(&sdk, &settlement)).into_iter().filter(|parent| *parent == of_message);
                // A response is a send, which the filter lets pass.
                let is_response = !settlement.ends_with(&from);
                assert!(settled.count() == usize::from(has_span) || is_response && !has_span, "{}", case());
            }
        }
    }
}
