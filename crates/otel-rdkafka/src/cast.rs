//! The pointer casts between a wrapper and the raw type in it.
//!
//! rdkafka's callbacks and traits give references to the raw type, or take a raw type that is shared.
#![allow(unsafe_code, reason = "rdkafka returns references to its own types; the invariant is that of `Transparent`")]

use std::{ptr, sync::Arc};

/// A wrapper around a raw type of rdkafka's. `transparent!` declares it.
///
/// # Safety
///
/// The type is `#[repr(transparent)]` over `Raw`: it has that field, no `Drop` and no other state. Other state is in
/// [`Traced`](crate::context::Traced). So a reference to the raw type is valid as a reference to the wrapper, and a shared
/// wrapper as a shared raw type.
pub(crate) unsafe trait Transparent {
    type Raw;
}

/// Declares a wrapper with one field, the raw type.
macro_rules! transparent {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident<C: $bound:ident = $default:ty $(, $more:ident = $other:ty)?>($raw:ty);
    ) => {
        $(#[$attribute])*
        #[repr(transparent)]
        pub struct $name<C: $bound = $default $(, $more = $other)?>($raw);

        #[allow(unsafe_code, reason = "the invariant is that of `Transparent`")]
        // SAFETY: the type above is transparent over its only field, and has no `Drop`.
        unsafe impl<C: $bound $(, $more)?> $crate::cast::Transparent for $name<C $(, $more)?> {
            type Raw = $raw;
        }
    };
}
pub(crate) use transparent;

/// A reference to a raw type, as the wrapper.
pub(crate) fn wrapper<T: Transparent>(raw: &T::Raw) -> &T {
    // SAFETY: the wrapper is transparent over the raw type.
    unsafe { &*ptr::from_ref(raw).cast() }
}

/// A shared wrapper, as the raw type.
pub(crate) fn shared_raw<T: Transparent>(ours: Arc<T>) -> Arc<T::Raw> {
    // SAFETY: the wrapper is transparent over the raw type: same size, alignment and drop.
    unsafe { Arc::from_raw(Arc::into_raw(ours).cast()) }
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        consumer::Consumer as _,
        producer::{DefaultProducerContext, Producer as _},
    };

    use super::*;
    use crate::{client::Client, consumer::BaseConsumer, producer::BaseProducer};

    #[test]
    fn references_point_to_the_same_client() {
        let consumer: BaseConsumer = ClientConfig::new().create().unwrap();
        let ours: &BaseConsumer = wrapper(consumer.get_ref());
        assert!(ptr::eq(ours, &consumer));
        let raw = consumer.get_ref().client();
        let client: &Client<_> = wrapper(raw);
        assert_eq!(client.native_ptr(), raw.native_ptr());
        assert!(ptr::eq(client.get_ref(), raw));
    }

    #[test]
    fn a_shared_consumer_stays_one_and_is_dropped_once() {
        let ours: Arc<BaseConsumer> = Arc::new(ClientConfig::new().create().unwrap());
        let raw = shared_raw(ours.clone());
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
    use rdkafka::{
        client as raw_client,
        consumer::{self as raw_consumer, DefaultConsumerContext},
    };

    use crate::{
        client::Client,
        consumer::{BaseConsumer, StreamConsumer},
        context::Traced,
    };

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
}
