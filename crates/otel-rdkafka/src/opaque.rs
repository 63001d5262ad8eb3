//! The delivery opaque: how a send's span travels through librdkafka beside the user's opaque.
#![allow(unsafe_code, reason = "rdkafka's opaques are pointers; each block states its invariant")]

use std::ffi::c_void;

use futures_channel::oneshot;
use rdkafka::{IntoOpaque, error::KafkaError, producer::future_producer::Delivery};

use crate::{message::OwnedMessage, send::TracedOpaque};

/// The delivery opaque of a `FutureProducerContext`: it completes the future of one message.
#[derive(Debug)]
pub struct DeliverySender(pub(crate) oneshot::Sender<Result<Delivery, (KafkaError, OwnedMessage)>>);

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
        Self(*unsafe { Box::<oneshot::Sender<_>>::from_ptr(pointer) })
    }
}

/// Miri runs these (`make miri`).
#[cfg(test)]
mod tests_without_c {
    use std::{
        hint::black_box,
        ptr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use opentelemetry::trace::noop::NoopTextMapPropagator;
    use otel_messaging::{Instrumentation, Propagation};
    use rdkafka::producer::BaseRecord;

    use super::*;
    use crate::{send::start_send, telemetry::ClientTelemetry};

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
    fn an_opaque_is_returned_whatever_its_pointer_and_boxed_only_if_needed() {
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
