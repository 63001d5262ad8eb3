//! Delivery history: attempts, age and replays, which the reply subject of a JetStream message says.

use std::time::SystemTime;
#[cfg(feature = "jetstream")]
use std::{io, str::FromStr};

#[cfg(feature = "jetstream")]
use async_nats::{
    datetime::{self, DateTime},
    jetstream::message::Info,
};
use otel_messaging::{
    adapter::{self, Attributes, Clock},
    semconv::extension,
};

/// The delivery history of a message, and what the configuration of its consumer adds.
#[derive(Debug, Default)]
pub(crate) struct DeliveryHistory<'a> {
    pub(crate) domain: Option<&'a str>,
    pub(crate) stream_sequence: Option<u64>,
    pub(crate) consumer_sequence: Option<u64>,
    /// Attempt number, counted from 1.
    pub(crate) attempt: Option<u64>,
    /// When the stream stored the message.
    pub(crate) stored: Option<SystemTime>,
    pub(crate) replayed: bool,
    /// The server left its body out.
    pub(crate) headers_only: bool,
    pub(crate) awaits_settlement: bool,
}

impl DeliveryHistory<'_> {
    /// The part of it that the core reads. A schedule of the server may have sent the message.
    #[inline]
    pub(crate) fn for_arrival(&self, scheduled: bool) -> adapter::DeliveryHistory {
        adapter::DeliveryHistory {
            sent: self.stored.map(|stored| (stored, Clock::Broker)),
            attempt: self.attempt,
            redelivered: self.attempt.is_some_and(|attempt| attempt > 1),
            dead_lettered: false,
            replayed: self.replayed,
            scheduled,
        }
    }

    #[inline]
    pub(crate) fn set_attributes(&self, message: &mut Attributes) {
        let numbers = [
            (extension::NATS_MESSAGE_STREAM_SEQUENCE, self.stream_sequence),
            (extension::NATS_MESSAGE_CONSUMER_SEQUENCE, self.consumer_sequence),
            (extension::NATS_MESSAGE_DELIVERY_COUNT, self.attempt),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                message.set_number(key, number);
            }
        }
    }
}

/// Reads `$JS.ACK.…` as the client does, whose own function needs a whole raw message.
#[cfg(feature = "jetstream")]
pub(crate) fn parse(reply: &str) -> Result<Info<'_>, async_nats::Error> {
    let tokens = reply.strip_prefix("$JS.ACK.").ok_or_else(|| io::Error::other("did not found proper prefix"))?;
    let mut tokens = tokens.split('.');
    let count = tokens.clone().count();
    let (domain, acc_hash) = match count {
        7 => (None, None),
        9.. => (tokens.next().filter(|domain| *domain != "_"), tokens.next()),
        _ => return Err(io::Error::other("bad token number").into()),
    };
    let mut next = || tokens.next().ok_or_else(|| io::Error::other("too few tokens"));
    Ok(Info {
        domain,
        acc_hash,
        stream: next()?,
        consumer: next()?,
        delivered: number(next()?)?,
        stream_sequence: number(next()?)?,
        consumer_sequence: number(next()?)?,
        published: datetime::from_nanos(number(next()?)?)?,
        pending: number(next()?)?,
        token: tokens.next(),
    })
}

#[cfg(feature = "jetstream")]
fn number<N>(token: &str) -> Result<N, async_nats::Error>
where
    N: FromStr<Err = std::num::ParseIntError>,
{
    Ok(token.parse()?)
}

/// The history that a reply subject of JetStream says; an empty one for any other.
#[cfg(feature = "jetstream")]
pub(crate) fn from_reply(reply: Option<&str>) -> (DeliveryHistory<'_>, Option<DateTime>) {
    let Some(info) = reply.and_then(|reply| parse(reply).ok()) else { return Default::default() };
    let history = DeliveryHistory {
        domain: info.domain,
        stream_sequence: Some(info.stream_sequence),
        consumer_sequence: Some(info.consumer_sequence),
        attempt: u64::try_from(info.delivered).ok().filter(|attempt| *attempt > 0),
        stored: since_1970(info.published),
        ..DeliveryHistory::default()
    };
    (history, Some(info.published))
}

/// The conversion panics for times before 1970 on systems whose time begins there.
#[cfg(feature = "jetstream")]
fn since_1970(time: DateTime) -> Option<SystemTime> {
    let begin = datetime::from_nanos(0).ok()?;
    (time >= begin).then(|| time.into())
}

#[cfg(all(test, feature = "jetstream"))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const AT: &str = "1790230470084404000";

    #[test]
    fn a_reply_of_an_old_server() {
        let reply = format!("$JS.ACK.events.durable.3.100.7.{AT}.42");
        let info = parse(&reply).unwrap();
        assert_eq!((info.domain, info.acc_hash, info.token), (None, None, None));
        assert_eq!((info.stream, info.consumer), ("events", "durable"));
        assert_eq!((info.delivered, info.stream_sequence, info.consumer_sequence, info.pending), (3, 100, 7, 42));
        assert_eq!(info.published, datetime::from_nanos(AT.parse().unwrap()).unwrap());
    }

    #[test]
    fn a_reply_with_domain_and_token() {
        let reply = format!("$JS.ACK.hub.szMpdrwD.events.durable.2.50.9.{AT}.0.rand.more");
        let info = parse(&reply).unwrap();
        assert_eq!((info.domain, info.acc_hash, info.token), (Some("hub"), Some("szMpdrwD"), Some("rand")));
        assert_eq!((info.stream, info.consumer), ("events", "durable"));
    }

    #[test]
    fn no_domain_is_an_underscore() {
        let reply = format!("$JS.ACK._.szMpdrwD.events.durable.2.50.9.{AT}.0");
        assert_eq!(parse(&reply).unwrap().domain, None);
    }

    #[test]
    fn what_is_no_acknowledgement_subject_is_an_error() {
        for reply in ["_INBOX.x", "$JS.ACK.a.b.1.2.3.4", "$JS.ACK.a.b.c.d.e.f.g.h", "$JS.ACK.s.c.1.x.3.4.5", "$JS.ACK."]
        {
            assert!(parse(reply).is_err(), "{reply}");
        }
    }

    /// What is written as the server writes it, with the numbers that it could write.
    fn written() -> impl Strategy<Value = (Vec<String>, i64, u64, u64, i64, u64)> {
        // Three that only newer servers write: domain, account, and whatever they will think of.
        let more = proptest::collection::vec("[^. ]{1,12}", 3);
        let more = prop_oneof![Just(Vec::new()), more];
        (more, any::<i64>(), any::<u64>(), any::<u64>(), any::<i64>(), any::<u64>())
    }

    proptest! {
        #[test]
        fn whatever_is_no_acknowledgement_subject_is_an_error_or_nothing(reply in ".*", tokens in "(\\PC{0,4}\\.){0,14}") {
            let _ = from_reply(Some(&reply));
            let _ = from_reply(Some(&format!("$JS.ACK.{tokens}")));
            prop_assert!(reply.starts_with("$JS.ACK.") || parse(&reply).is_err());
        }

        #[test]
        fn what_the_server_writes_is_read_as_it_is(
            (more, delivered, stream_sequence, consumer_sequence, published, pending) in written()
        ) {
            let (before, after) = match &more[..] {
                [domain, account, more] => (format!("{domain}.{account}."), format!(".{more}")),
                _ => Default::default(),
            };
            let numbers = format!("{delivered}.{stream_sequence}.{consumer_sequence}.{published}.{pending}");
            let reply = format!("$JS.ACK.{before}S.C.{numbers}{after}");
            let info = parse(&reply).unwrap();
            prop_assert_eq!((info.stream, info.consumer, info.token), ("S", "C", more.get(2).map(String::as_str)));
            prop_assert_eq!(info.domain, more.first().map(String::as_str).filter(|domain| *domain != "_"));
            prop_assert_eq!((info.stream_sequence, info.consumer_sequence), (stream_sequence, consumer_sequence));
            prop_assert_eq!((info.delivered, info.pending), (delivered, pending));

            let (history, at) = from_reply(Some(&reply));
            prop_assert_eq!(at, Some(info.published));
            prop_assert_eq!(history.attempt, u64::try_from(delivered).ok().filter(|attempt| *attempt > 0));
            let nanoseconds = u64::try_from(published).ok();
            let stored = nanoseconds.map(|since| SystemTime::UNIX_EPOCH + Duration::from_nanos(since));
            prop_assert_eq!(history.stored, stored);
        }
    }
}
