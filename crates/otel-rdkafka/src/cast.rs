//! Every place where a pointer to one type is taken for a pointer to another.
//!
//! The invariant of the clients: [`Client`], [`BaseConsumer`] and [`StreamConsumer`] are `repr(transparent)` over the raw
//! type, with one field, no `Drop` and no state beside it; everything lives in [`Traced`]. So a reference to the one is a
//! reference to the other.
#![allow(unsafe_code, reason = "rdkafka hands out references to its own types; each cast states its invariant")]

use std::{ffi::c_void, ptr, sync::Arc};

use futures_channel::oneshot;
use rdkafka::{ClientContext, IntoOpaque, client as raw_client, consumer as raw_consumer};

use crate::{
    client::Client,
    consumer::{BaseConsumer, ConsumerContext, StreamConsumer},
    context::Traced,
    producer::{OwnedDeliveryResult, Pending, Reply},
};

/// The client inside a raw producer or consumer, as ours.
pub(crate) fn client<C: ClientContext>(raw: &raw_client::Client<Traced<C>>) -> &Client<C> {
    // SAFETY: `Client` is transparent over the raw type, see the module.
    unsafe { &*ptr::from_ref(raw).cast() }
}

/// The consumer that rdkafka gives to a callback, as ours.
pub(crate) fn base_consumer<C: ConsumerContext>(raw: &raw_consumer::BaseConsumer<Traced<C>>) -> &BaseConsumer<C> {
    // SAFETY: `BaseConsumer` is transparent over the raw type, see the module.
    unsafe { &*ptr::from_ref(raw).cast() }
}

/// A shared consumer of ours, as the raw one.
pub(crate) fn raw_base_consumer<C: ConsumerContext>(
    ours: Arc<BaseConsumer<C>>,
) -> Arc<raw_consumer::BaseConsumer<Traced<C>>> {
    // SAFETY: `BaseConsumer` is transparent over the raw type, see the module: same size, alignment and drop.
    unsafe { Arc::from_raw(Arc::into_raw(ours).cast()) }
}

/// A shared consumer of ours, as the raw one.
pub(crate) fn raw_stream_consumer<C: ConsumerContext, R>(
    ours: Arc<StreamConsumer<C, R>>,
) -> Arc<raw_consumer::StreamConsumer<Traced<C>, R>> {
    // SAFETY: `StreamConsumer` is transparent over the raw type, see the module: same size, alignment and drop.
    unsafe { Arc::from_raw(Arc::into_raw(ours).cast()) }
}

/// Set in the pointer that librdkafka carries when it points to a box of ours.
const BOXED: usize = 1;

// Where nothing is told of a message, the user's opaque travels as it is. Where something is, or where the user's
// pointer is odd, one box holds both and its pointer is marked in the bit that its alignment leaves free.
impl<D: IntoOpaque> IntoOpaque for Pending<D> {
    fn into_ptr(self) -> *mut c_void {
        const { assert!(align_of::<Self>() > BOXED) };
        let pending = match self {
            Self { user, sent: None } => {
                let user = user.into_ptr();
                if user.addr() & BOXED == 0 {
                    return user;
                }
                // SAFETY: it comes from `into_ptr` of the same type and is taken back once.
                Self { user: unsafe { D::from_ptr(user) }, sent: None }
            }
            traced => traced,
        };
        Box::into_raw(Box::new(pending)).map_addr(|address| address | BOXED).cast()
    }

    unsafe fn from_ptr(pointer: *mut c_void) -> Self {
        if pointer.addr() & BOXED == 0 {
            // SAFETY: unmarked, so it is what the user's `into_ptr` gave, and our caller takes it back once.
            return Self { user: unsafe { D::from_ptr(pointer) }, sent: None };
        }
        // SAFETY: marked, so it is a box that `into_ptr` made, and our caller takes it back once.
        *unsafe { Box::from_raw(pointer.map_addr(|address| address & !BOXED).cast::<Self>()) }
    }
}

// Alone, it is boxed; with a span, `Pending` holds it by value.
impl IntoOpaque for Reply {
    fn into_ptr(self) -> *mut c_void {
        Box::new(self.0).into_ptr()
    }

    unsafe fn from_ptr(pointer: *mut c_void) -> Self {
        // SAFETY: our caller's promise is the one that the box asks for.
        Self(*unsafe { Box::<oneshot::Sender<OwnedDeliveryResult>>::from_ptr(pointer) })
    }
}
