//! All pointer casts between types.
//!
//! The invariant of the clients: [`Client`], [`BaseConsumer`] and [`StreamConsumer`] are `#[repr(transparent)]` over the raw
//! type. They have one field, no `Drop` and no other state, which is in [`Traced`]. So a reference to the wrapper is valid as a
//! reference to the raw type, and the other way round.
#![allow(unsafe_code, reason = "rdkafka returns references to its own types; each cast states its invariant")]

use std::{ffi::c_void, ptr, sync::Arc};

use futures_channel::oneshot;
use rdkafka::{ClientContext, IntoOpaque, client as raw_client, consumer as raw_consumer};

use crate::{
    client::Client,
    consumer::{BaseConsumer, ConsumerContext, StreamConsumer},
    context::Traced,
    producer::OwnedDeliveryResult,
    send::{DeliverySender, TracedOpaque},
};

/// The client of a raw producer or consumer, as this crate's type.
pub(crate) fn client<C: ClientContext>(raw: &raw_client::Client<Traced<C>>) -> &Client<C> {
    // SAFETY: `Client` is transparent over the raw type, see the module.
    unsafe { &*ptr::from_ref(raw).cast() }
}

/// The consumer that rdkafka gives to a callback, as this crate's type.
pub(crate) fn base_consumer<C: ConsumerContext>(raw: &raw_consumer::BaseConsumer<Traced<C>>) -> &BaseConsumer<C> {
    // SAFETY: `BaseConsumer` is transparent over the raw type, see the module.
    unsafe { &*ptr::from_ref(raw).cast() }
}

/// A shared consumer of this crate, as the raw type.
pub(crate) fn raw_base_consumer<C: ConsumerContext>(
    ours: Arc<BaseConsumer<C>>,
) -> Arc<raw_consumer::BaseConsumer<Traced<C>>> {
    // SAFETY: `BaseConsumer` is transparent over the raw type, see the module: same size, alignment and drop.
    unsafe { Arc::from_raw(Arc::into_raw(ours).cast()) }
}

/// A shared consumer of this crate, as the raw type.
pub(crate) fn raw_stream_consumer<C: ConsumerContext, R>(
    ours: Arc<StreamConsumer<C, R>>,
) -> Arc<raw_consumer::StreamConsumer<Traced<C>, R>> {
    // SAFETY: `StreamConsumer` is transparent over the raw type, see the module: same size, alignment and drop.
    unsafe { Arc::from_raw(Arc::into_raw(ours).cast()) }
}

/// Set in the lowest bit of the pointer that librdkafka carries, if it points to a [`BoxedOpaque`] and is not the user's pointer.
const BOXED: usize = 1;

enum BoxedOpaque<D> {
    Traced(TracedOpaque<D>),
    /// The user's pointer, in which that bit is set.
    Untraced(*mut c_void),
}

// Without a span librdkafka carries the user's pointer unchanged.
impl<D: IntoOpaque> IntoOpaque for TracedOpaque<D> {
    fn into_ptr(self) -> *mut c_void {
        const { assert!(align_of::<BoxedOpaque<D>>() > BOXED) };
        let boxed = match self {
            Self { user, in_flight: None } => {
                let user = user.into_ptr();
                if user.addr() & BOXED == 0 {
                    return user;
                }
                BoxedOpaque::Untraced(user)
            }
            traced => BoxedOpaque::Traced(traced),
        };
        Box::into_raw(Box::new(boxed)).cast::<c_void>().map_addr(|address| address | BOXED)
    }

    unsafe fn from_ptr(pointer: *mut c_void) -> Self {
        let user = if pointer.addr() & BOXED == 0 {
            pointer
        } else {
            let boxed = pointer.map_addr(|address| address & !BOXED).cast::<BoxedOpaque<D>>();
            // SAFETY: the bit marks a box that `into_ptr` made, and the caller takes it back once.
            match *unsafe { Box::from_raw(boxed) } {
                BoxedOpaque::Traced(opaque) => return opaque,
                BoxedOpaque::Untraced(user) => user,
            }
        };
        // SAFETY: the user's `into_ptr` returned this pointer, and the caller takes it back once.
        Self { user: unsafe { D::from_ptr(user) }, in_flight: None }
    }
}

// Boxed for a send without a span. With a span `TracedOpaque` holds the sender by value.
impl IntoOpaque for DeliverySender {
    fn into_ptr(self) -> *mut c_void {
        Box::new(self.0).into_ptr()
    }

    unsafe fn from_ptr(pointer: *mut c_void) -> Self {
        // SAFETY: the box requires what the caller promises.
        Self(*unsafe { Box::<oneshot::Sender<OwnedDeliveryResult>>::from_ptr(pointer) })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        consumer::Consumer as _,
        producer::{DefaultProducerContext, Producer as _},
    };

    use super::*;
    use crate::producer::BaseProducer;

    #[test]
    fn references_point_to_the_same_client() {
        let consumer: BaseConsumer = ClientConfig::new().create().unwrap();
        let ours = base_consumer(consumer.get_ref());
        assert!(ptr::eq(ours, &consumer));
        let raw = consumer.get_ref().client();
        assert_eq!(client(raw).native_ptr(), raw.native_ptr());
        assert!(ptr::eq(client(raw).get_ref(), raw));
    }

    #[test]
    fn a_shared_consumer_stays_one_and_is_dropped_once() {
        let ours: Arc<BaseConsumer> = Arc::new(ClientConfig::new().create().unwrap());
        let raw = raw_base_consumer(ours.clone());
        assert_eq!(Arc::as_ptr(&raw).addr(), Arc::as_ptr(&ours).addr());
        assert_eq!(Arc::strong_count(&ours), 2);
        drop(ours);
        assert_eq!(Arc::strong_count(&raw), 1);
    }

    #[test]
    fn a_producers_client_is_its_own() {
        let producer: BaseProducer = ClientConfig::new().create().unwrap();
        let ours: &Client<DefaultProducerContext> = crate::producer::Producer::client(&producer);
        assert_eq!(ours.native_ptr(), producer.get_ref().client().native_ptr());
    }
}

/// Miri runs these (`make miri`).
#[cfg(test)]
mod tests_without_c {
    use std::{
        hint::black_box,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use opentelemetry::trace::noop::NoopTextMapPropagator;
    use otel_messaging::{Instrumentation, Propagation};
    use rdkafka::{consumer::DefaultConsumerContext, producer::BaseRecord};

    use super::*;
    use crate::{send::start_send, telemetry::ClientTelemetry};

    fn same_layout<A, B>() {
        assert_eq!((size_of::<A>(), align_of::<A>()), (size_of::<B>(), align_of::<B>()));
    }

    #[test]
    fn a_client_is_nothing_but_what_it_wraps() {
        type Context = DefaultConsumerContext;
        same_layout::<Client<Context>, raw_client::Client<Traced<Context>>>();
        same_layout::<BaseConsumer<Context>, raw_consumer::BaseConsumer<Traced<Context>>>();
        same_layout::<StreamConsumer<Context, ()>, raw_consumer::StreamConsumer<Traced<Context>, ()>>();
    }

    /// Counts its living instances. The test chooses its pointer.
    #[derive(Debug)]
    struct Counted(usize);

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    impl Counted {
        fn new(pointer: usize) -> Self {
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Self(pointer)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl IntoOpaque for Counted {
        fn into_ptr(self) -> *mut c_void {
            let pointer = ptr::without_provenance_mut(self.0);
            std::mem::forget(self);
            pointer
        }

        unsafe fn from_ptr(pointer: *mut c_void) -> Self {
            Self(pointer.addr())
        }
    }

    #[test]
    fn an_opaque_comes_back_whatever_its_pointer_and_is_boxed_only_where_it_must_be() {
        let telemetry = ClientTelemetry::new();
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::default();
        let instrumentation = Instrumentation::builder().with_tracer_provider(provider);
        telemetry
            .core
            .instrument(instrumentation.with_propagation(Propagation::custom(NoopTextMapPropagator::new())).build());
        let record = || BaseRecord::<(), (), ()>::to("orders");
        let traced = || start_send(&telemetry, telemetry.start_operation(), record()).delivery_opaque.in_flight;

        for pointer in [0, 1, 2, 3, 4, 8, usize::MAX - 3, usize::MAX - 2, usize::MAX - 1, usize::MAX] {
            for (is_traced, in_flight) in [(false, None), (true, traced())] {
                let opaque = black_box(TracedOpaque { user: Counted::new(pointer), in_flight }.into_ptr());
                let boxed = opaque.addr() & BOXED == BOXED;
                assert_eq!(boxed, is_traced || pointer & BOXED == BOXED, "{pointer} {is_traced}");
                assert!(boxed || opaque.addr() == pointer);
                assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
                // SAFETY: made by `into_ptr` above, taken back once.
                let back = unsafe { TracedOpaque::<Counted>::from_ptr(opaque) };
                assert_eq!((back.user.0, back.in_flight.is_some()), (pointer, is_traced));
                drop(back);
                assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
            }
        }
    }

    #[test]
    fn a_reply_comes_back() {
        let (sender, mut receiver) = oneshot::channel();
        // SAFETY: made by `into_ptr`, taken back once.
        let DeliverySender(sender) = unsafe { DeliverySender::from_ptr(DeliverySender(sender).into_ptr()) };
        assert_eq!(receiver.try_recv().map(|answer| answer.is_some()), Ok(false));
        drop(sender);
        assert!(receiver.try_recv().is_err());
    }
}
