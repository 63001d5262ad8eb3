//! Every statement that a document shows in its text compiles, and what it shows as a mistake is one: `tests/statements`.
//!
//! A mistake that does not compile stands here beside what is right. The two differ in their last line alone, which is all that
//! the second can fail to compile for.
//!
//! docs/handling.md, "One message":
//!
//! ```no_run
//! # use std::time::Duration;
//! # use otel_rdkafka::{message::BorrowedMessage, otel::MessageExt, producer::{FutureProducer, FutureRecord}};
//! # fn what_is_sent_belongs_to_the_message(
//! #     message: &BorrowedMessage<'_>,
//! #     producer: &FutureProducer,
//! #     record: FutureRecord<'_, str, str>,
//! #     timeout: Duration,
//! # ) {
//! # #[allow(clippy::let_underscore_future)]
//! let _ = message.process(|| async { producer.send(record, timeout).await.map_err(|(error, _)| error) });
//! # }
//! ```
//!
//! ```compile_fail
//! # use std::time::Duration;
//! # use otel_rdkafka::{message::BorrowedMessage, otel::MessageExt, producer::{FutureProducer, FutureRecord}};
//! # fn what_is_sent_belongs_to_the_message(
//! #     message: &BorrowedMessage<'_>,
//! #     producer: &FutureProducer,
//! #     record: FutureRecord<'_, str, str>,
//! #     timeout: Duration,
//! # ) {
//! # #[allow(clippy::let_underscore_future)]
//! let _ = message.process(|| producer.send(record, timeout));
//! # }
//! ```
