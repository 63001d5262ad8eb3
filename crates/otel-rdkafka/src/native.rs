//! Calls that rdkafka's safe interface does not have: reading headers with any names, removing headers, and reading the
//! configuration of a client.
//!
//! rdkafka's own header iterator panics on a name that is not UTF-8, and [`OwnedHeaders`] can only grow.
#![allow(unsafe_code, reason = "calls into librdkafka; each function states what keeps its pointers valid")]

use std::{
    ffi::{CStr, CString, c_void},
    mem, ptr, slice,
};

use rdkafka::{
    bindings,
    client::{Client, ClientContext},
    error::{IsError, KafkaError, RDKafkaErrorCode},
    message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, Message, OwnedHeaders},
    types::{RDKafka, RDKafkaConfRes, RDKafkaHeaders, RDKafkaRespErr},
};

/// A header: a name of any bytes, and a value that may be null.
pub(crate) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

fn list_ptr(headers: &BorrowedHeaders) -> *mut RDKafkaHeaders {
    // A reference to `BorrowedHeaders` is the address of librdkafka's list.
    ptr::from_ref(headers).cast_mut().cast()
}

/// The header at an index, with its name as librdkafka stores it.
fn header_at(headers: &BorrowedHeaders, index: usize) -> Option<(&CStr, Option<&[u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the list is alive as long as the reference to it. Name and value point into the list and live as long: the name
    // ends with a zero, the value is null or has that size.
    unsafe {
        let error = bindings::rd_kafka_header_get_all(list_ptr(headers), index, &mut name, &mut value, &mut size);
        if error.is_error() {
            return None;
        }
        let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
        Some((CStr::from_ptr(name), value))
    }
}

/// All headers, the last one first.
pub(crate) fn headers_reversed(headers: &BorrowedHeaders) -> impl Iterator<Item = Header<'_>> {
    // SAFETY: the list is alive as long as the reference to it.
    let count = unsafe { bindings::rd_kafka_header_cnt(list_ptr(headers)) };
    (0..count).rev().filter_map(|index| header_at(headers, index)).map(|(name, value)| (name.to_bytes(), value))
}

/// Adds a header after the others.
pub(crate) fn add(headers: &mut OwnedHeaders, (name, value): Header<'_>) {
    let pointer = value.map_or(ptr::null(), <[u8]>::as_ptr);
    let value_len = isize::try_from(value.map_or(0, <[u8]>::len));
    let (Ok(name_len), Ok(value_len)) = (isize::try_from(name.len()), value_len) else { return };
    // SAFETY: the list has no other owner. librdkafka copies name and value, of the given lengths; a value may be null.
    unsafe {
        bindings::rd_kafka_header_add(
            list_ptr(headers.as_borrowed()),
            name.as_ptr().cast(),
            name_len,
            pointer.cast::<c_void>(),
            value_len,
        );
    }
}

/// Removes all headers of this name, in any letter case.
pub(crate) fn remove(headers: &mut OwnedHeaders, name: &str) {
    let same = |header: &(&CStr, _)| header.0.to_bytes().eq_ignore_ascii_case(name.as_bytes());
    loop {
        let borrowed = headers.as_borrowed();
        let Some((found, _)) = (0..).map_while(|index| header_at(borrowed, index)).find(same) else { return };
        let found = found.to_owned();
        // SAFETY: the list has no other owner, and the name is a copy.
        if !unsafe { remove_exact_name(borrowed, &found) } {
            return;
        }
    }
}

/// Removes the headers after the first `count`.
pub(crate) fn truncate(headers: &mut OwnedHeaders, count: usize) {
    // SAFETY: the list has no other owner.
    unsafe { truncate_list(headers.as_borrowed(), count) }
}

/// # Safety
///
/// There is no other reference into the list.
unsafe fn truncate_list(headers: &BorrowedHeaders, count: usize) {
    while let Some((name, _)) = header_at(headers, count) {
        // librdkafka removes headers only by name. No header before `count` has this name: an appended name was not there before.
        let name = name.to_owned();
        // SAFETY: the caller's promise.
        if !unsafe { remove_exact_name(headers, &name) } {
            return;
        }
    }
}

/// # Safety
///
/// There is no other reference into the list.
unsafe fn remove_exact_name(headers: &BorrowedHeaders, name: &CString) -> bool {
    // SAFETY: the list is alive as long as the reference to it, and no reference points to what is freed. The name is a copy:
    // librdkafka compares it after it has freed headers.
    unsafe { !bindings::rd_kafka_header_remove(list_ptr(headers), name.as_ptr()).is_error() }
}

/// A delivery report inside rdkafka's callback: its client is alive, and the application has not got the message yet.
pub(crate) struct DeliveryReport<'a> {
    result: &'a DeliveryResult<'a>,
    client: *mut RDKafka,
}

impl<'a> DeliveryReport<'a> {
    /// # Safety
    ///
    /// Made in `ProducerContext::delivery`, from the result that rdkafka gives to it, and dropped before other code gets the
    /// result. `client` is null or the client that calls.
    pub(crate) unsafe fn new(result: &'a DeliveryResult<'a>, client: *mut RDKafka) -> Self {
        Self { result, client }
    }

    /// Why the message was not delivered.
    pub(crate) fn error(&self) -> Option<&'a KafkaError> {
        self.result.as_ref().err().map(|(error, _)| error)
    }

    pub(crate) fn message(&self) -> &BorrowedMessage<'_> {
        let (Ok(message) | Err((_, message))) = self.result;
        message
    }

    /// The id of the cluster, if librdkafka has got it from a broker.
    pub(crate) fn cluster_id(&self) -> Option<String> {
        // SAFETY: the client is null or alive, as the caller of `new` promised.
        unsafe { cluster_id_of_ptr(self.client) }
    }

    /// Removes the message's headers after the first `count`.
    pub(crate) fn truncate_headers(&mut self, count: usize) {
        if let Some(headers) = self.message().headers() {
            // SAFETY: the borrow from `message` has ended, and no other code has the message, as the caller of `new` promised.
            unsafe { truncate_list(headers, count) }
        }
    }

    /// Replaces the message's headers; `None` removes them.
    pub(crate) fn replace_headers(&mut self, headers: Option<OwnedHeaders>) {
        let list = headers.as_ref().map_or(ptr::null_mut(), |headers| list_ptr(headers.as_borrowed()));
        // SAFETY: the message is alive as long as the reference to it. librdkafka frees its old headers, and no reference points
        // into them: the borrow from `message` has ended, and no other code has the message, as the caller of `new` promised.
        // librdkafka owns the new headers from here on, so they must not be dropped.
        unsafe { bindings::rd_kafka_message_set_headers(self.message().ptr(), list) };
        mem::forget(headers);
    }
}

/// The size of the headers in a message: at least the bytes that librdkafka counts.
pub(crate) fn headers_size(headers: &BorrowedHeaders) -> usize {
    headers_reversed(headers).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + MAX_LENGTH_PREFIXES).sum()
}

/// The largest size of a header's two length prefixes, which are varints.
pub(crate) const MAX_LENGTH_PREFIXES: usize = 10;

/// The value of a setting in a client's configuration.
pub(crate) fn configuration_value<C: ClientContext>(client: &Client<C>, name: &CStr) -> Option<String> {
    let mut size = 0;
    // SAFETY: the client is alive as long as the reference to it; its configuration lives as long and does not change.
    // The first call returns the size, with the terminating zero, and the second call gets a buffer of that size.
    unsafe {
        let configuration = bindings::rd_kafka_conf(client.native_ptr());
        let asked = bindings::rd_kafka_conf_get(configuration, name.as_ptr(), ptr::null_mut(), &mut size);
        if asked != RDKafkaConfRes::RD_KAFKA_CONF_OK {
            return None;
        }
        let mut value = vec![0_u8; size];
        let read = bindings::rd_kafka_conf_get(configuration, name.as_ptr(), value.as_mut_ptr().cast(), &mut size);
        if read != RDKafkaConfRes::RD_KAFKA_CONF_OK {
            return None;
        }
        CStr::from_bytes_until_nul(&value).ok()?.to_str().ok().map(str::to_owned)
    }
}

/// The id of the cluster, if librdkafka has got it from a broker. Does not wait.
pub(crate) fn cluster_id<C: ClientContext>(client: &Client<C>) -> Option<String> {
    // SAFETY: the client is alive as long as the reference to it.
    unsafe { cluster_id_of_ptr(client.native_ptr()) }
}

/// [`cluster_id`] for a pointer to a client.
///
/// # Safety
///
/// The client is alive, or the pointer null.
pub(crate) unsafe fn cluster_id_of_ptr(client: *mut RDKafka) -> Option<String> {
    if client.is_null() {
        return None;
    }
    // SAFETY: the client is alive, as the caller promises. The returned text ends with a zero, and the caller has to free it with
    // `rd_kafka_mem_free`.
    unsafe {
        let id = bindings::rd_kafka_clusterid(client, 0);
        if id.is_null() {
            return None;
        }
        let copy = CStr::from_ptr(id).to_str().ok().map(str::to_owned);
        bindings::rd_kafka_mem_free(client, id.cast());
        copy
    }
}

/// The id of the broker that a message was fetched from, or that the message of a delivery report was last sent to. Negative if
/// there is none.
pub(crate) fn broker_id(message: &BorrowedMessage<'_>) -> i32 {
    // SAFETY: the message is alive as long as the reference to it.
    unsafe { bindings::rd_kafka_message_broker_id(message.ptr()) }
}

/// Whether a broker has acknowledged the message of a delivery report. With `acks=0` no broker does.
pub(crate) fn is_acknowledged(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive as long as the reference to it.
    let status = unsafe { bindings::rd_kafka_message_status(message.ptr()) };
    status == bindings::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED
}

/// librdkafka's name of an error code: `_MSG_TIMED_OUT`.
pub(crate) fn error_name(code: RDKafkaErrorCode) -> Option<&'static str> {
    let code = RDKafkaRespErr::try_from(code as i32).ok()?;
    // SAFETY: librdkafka returns a literal for every code that has a description. Only the end markers of a range have none: for
    // them it writes into its own buffer, whose text is filtered out here and never returned.
    let name = unsafe { CStr::from_ptr(bindings::rd_kafka_err2name(code)) };
    name.to_str().ok().filter(|name| !name.starts_with("ERR_"))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, Headers, OwnedHeaders};

    use super::*;

    fn three() -> OwnedHeaders {
        OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header { key: "Trace", value: Some("2") })
            .insert::<[u8]>(Header { key: "a", value: None })
    }

    fn text(headers: &OwnedHeaders) -> Vec<(String, Option<String>)> {
        headers
            .iter()
            .map(|header| {
                (header.key.to_owned(), header.value.map(|value| String::from_utf8_lossy(value).into_owned()))
            })
            .collect()
    }

    #[test]
    fn headers_come_as_they_are_from_the_last() {
        let headers = three();
        let all: Vec<_> = headers_reversed(headers.as_borrowed()).collect();
        assert_eq!(all, [(&b"a"[..], None), (b"Trace", Some(&b"2"[..])), (b"a", Some(b"1"))]);
        assert_eq!(headers_reversed(OwnedHeaders::new().as_borrowed()).count(), 0);
    }

    #[test]
    fn a_name_is_taken_away_in_any_case_and_the_others_stay_in_order() {
        let mut headers = three();
        add(&mut headers, (b"tRACE", Some(b"3")));
        remove(&mut headers, "trace");
        remove(&mut headers, "absent");
        assert_eq!(text(&headers), [("a".to_owned(), Some("1".to_owned())), ("a".to_owned(), None)]);
    }

    #[test]
    fn what_was_appended_is_taken_away() {
        let mut headers = three();
        add(&mut headers, (b"traceparent", Some(b"00")));
        add(&mut headers, (b"baggage", Some(b"")));
        assert_eq!(headers.count(), 5);
        truncate(&mut headers, 3);
        assert_eq!(text(&headers), text(&three()));
        truncate(&mut headers, 3);
        assert_eq!(headers.count(), 3);
    }

    #[test]
    fn an_added_value_may_be_empty_and_hold_zeros() {
        let mut headers = OwnedHeaders::new();
        add(&mut headers, (b"zero", Some(b"a\0b")));
        add(&mut headers, (b"empty", Some(b"")));
        let all: Vec<_> = headers_reversed(headers.as_borrowed()).collect();
        assert_eq!(all, [(&b"empty"[..], Some(&b""[..])), (b"zero", Some(b"a\0b"))]);
    }

    #[test]
    fn only_real_codes_have_names() {
        assert_eq!(error_name(RDKafkaErrorCode::MessageTimedOut), Some("_MSG_TIMED_OUT"));
        assert_eq!(error_name(RDKafkaErrorCode::Begin), None);
        assert_eq!(error_name(RDKafkaErrorCode::EndAll), None);
    }
}
