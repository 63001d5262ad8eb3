pub(crate) mod batch;
pub(crate) mod deliver_stream;
pub(crate) mod message_ext;
pub(crate) mod outcome;
pub(crate) mod process_each;
pub(crate) mod received_message;
pub(crate) mod sequential;
pub(crate) mod stream_item;
