//! The wrappers have the auto traits of the client's types, and are `Clone` and `Debug` where those are.

use std::{
    fmt::Debug,
    marker::PhantomData,
    panic::{RefUnwindSafe, UnwindSafe},
};

use otel_async_nats::otel::raw;

/// Whether a type has a trait: the inherent constant, where it applies, takes precedence over the trait's.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "not where the type has the trait")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "not where the type has not the trait")]
        impl<T: ?Sized + $trait> Probe<T> {
            const ANSWER: bool = true;
        }
        <Probe<$type>>::ANSWER
    }};
}

macro_rules! at_least {
    ($($ours:ty: $theirs:ty),* $(,)?) => {$(
        let name = stringify!($ours);
        assert!(has!($ours: Send) || !has!($theirs: Send), "{name}: Send");
        assert!(has!($ours: Sync) || !has!($theirs: Sync), "{name}: Sync");
        assert!(has!($ours: Unpin) || !has!($theirs: Unpin), "{name}: Unpin");
        assert!(has!($ours: UnwindSafe) || !has!($theirs: UnwindSafe), "{name}: UnwindSafe");
        assert!(has!($ours: RefUnwindSafe) || !has!($theirs: RefUnwindSafe), "{name}: RefUnwindSafe");
        assert!(has!($ours: Clone) || !has!($theirs: Clone), "{name}: Clone");
        assert!(has!($ours: Debug), "{name}: Debug");
    )*};
}

#[test]
fn of_core_nats() {
    at_least!(
        otel_async_nats::Client: raw::Client,
        otel_async_nats::ConnectOptions: raw::ConnectOptions,
        otel_async_nats::Message: raw::Message,
        otel_async_nats::Subscriber: raw::Subscriber,
    );
    assert!(has!(otel_async_nats::Message: UnwindSafe), "the probe answers");
    assert!(!has!(std::rc::Rc<()>: Send), "the probe can say no");
}

#[cfg(feature = "jetstream")]
#[test]
fn of_jetstream() {
    use otel_async_nats::jetstream as ours;
    use raw::jetstream as theirs;

    at_least!(
        ours::Context: theirs::Context,
        ours::ContextBuilder<ours::context::Yes>: theirs::ContextBuilder<theirs::context::Yes>,
        ours::Message: theirs::Message,
        ours::message::Acker: theirs::message::Acker,
        ours::context::PublishAckFuture: theirs::context::PublishAckFuture,
        ours::stream::Stream: theirs::stream::Stream,
        ours::consumer::PullConsumer: theirs::consumer::PullConsumer,
        ours::consumer::PushConsumer: theirs::consumer::PushConsumer,
        ours::consumer::OrderedPullConsumer: theirs::consumer::OrderedPullConsumer,
        ours::consumer::OrderedPushConsumer: theirs::consumer::OrderedPushConsumer,
        ours::consumer::pull::Stream: theirs::consumer::pull::Stream,
        ours::consumer::pull::Ordered: theirs::consumer::pull::Ordered,
        ours::consumer::pull::Batch: theirs::consumer::pull::Batch,
        ours::consumer::pull::Sequence: theirs::consumer::pull::Sequence,
        ours::consumer::pull::StreamBuilder<'static>: theirs::consumer::pull::StreamBuilder<'static>,
        ours::consumer::pull::FetchBuilder<'static>: theirs::consumer::pull::FetchBuilder<'static>,
        ours::consumer::pull::BatchBuilder<'static>: theirs::consumer::pull::BatchBuilder<'static>,
        ours::consumer::push::Messages: theirs::consumer::push::Messages,
        ours::consumer::push::Ordered: theirs::consumer::push::Ordered,
    );
}

#[cfg(feature = "service")]
#[test]
fn of_services() {
    use otel_async_nats::service as ours;
    use raw::service as theirs;

    at_least!(
        ours::Service: theirs::Service,
        ours::ServiceBuilder: theirs::ServiceBuilder,
        ours::Group: theirs::Group,
        ours::EndpointBuilder: theirs::EndpointBuilder,
        ours::endpoint::Endpoint: theirs::endpoint::Endpoint,
        ours::Request: theirs::Request,
    );
}

/// Compiled and never called: the futures can be spawned.
#[cfg(feature = "jetstream")]
#[allow(dead_code)]
fn futures_are_send(client: &otel_async_nats::Client, context: &otel_async_nats::jetstream::Context) {
    fn send<T: Send>(_: T) {}
    send(client.publish("s", "".into()));
    send(client.publish_with_reply_and_headers("s", "r", otel_async_nats::HeaderMap::new(), "".into()));
    send(client.request("s", "".into()));
    send(client.send_request("s", otel_async_nats::Request::new()));
    send(client.subscribe("s"));
    send(client.queue_subscribe("s", "q".to_owned()));
    send(context.publish("s", "".into()));
    send(async { context.publish("s", "".into()).await?.await });
    send(async |message: &otel_async_nats::jetstream::Message| message.ack().await);
    send(async move |message: otel_async_nats::jetstream::Message| message.split().1.double_ack().await);
}
