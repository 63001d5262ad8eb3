//! Our types are what lapin's are.

use std::{
    fmt::Debug,
    panic::{RefUnwindSafe, UnwindSafe},
};

use lapin::{BasicProperties, types::ShortString};
use otel_lapin::message::{BasicGetMessage, BasicReturnMessage, Delivery};

/// lapin's types pass too, to show that it is not too much.
macro_rules! both_pass {
    ($check:ident: $($($name:ident)::+),* $(,)?) => {
        $(
            $check::<lapin::$($name)::+>();
            $check::<otel_lapin::$($name)::+>();
        )*
    };
}

fn any<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug>() {}
fn plain<T: Send + Sync + Unpin + Debug>() {}
fn cloned<T: Clone>() {}
fn compared<T: PartialEq>() {}

#[test]
fn auto_traits_are_lapins() {
    both_pass!(
        any: Acker,
        Channel,
        Consumer,
        PublisherConfirm,
        Confirmation,
        message::Delivery,
        message::BasicGetMessage,
        message::BasicReturnMessage,
    );
    // lapin's are not unwind safe, since an auth provider may be anything.
    both_pass!(plain: Connection, DefaultConnectionBuilder);
    both_pass!(cloned: Acker, Channel, Consumer);
    both_pass!(
        compared: Acker,
        Channel,
        Confirmation,
        message::Delivery,
        message::BasicGetMessage,
        message::BasicReturnMessage,
    );
}

#[test]
fn deliveries_can_be_made_and_taken_apart() {
    let mock = Delivery::mock(1, "exchange".into(), "key".into(), true, b"1".to_vec());
    let same = Delivery {
        delivery_tag: 1,
        exchange: "exchange".into(),
        routing_key: "key".into(),
        redelivered: true,
        properties: BasicProperties::default(),
        data: b"1".to_vec(),
        acker: mock.acker.clone(),
    };
    assert_eq!(same, mock);
    let Delivery { delivery_tag: _, exchange, routing_key: _, redelivered: _, properties: _, data: _, acker: _ } = same;
    assert_eq!(exchange, ShortString::from("exchange"));

    let raw = lapin::message::Delivery::from(mock);
    let got = BasicGetMessage { delivery: raw.into(), message_count: 2 };
    let raw = lapin::message::BasicGetMessage::from(got);
    assert_eq!(raw.message_count, 2);
    let BasicGetMessage { delivery, .. } = raw.into();
    let returned = BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() };
    assert_eq!(returned.error().map(|error| error.get_id()), Some(312));
    assert_eq!(lapin::message::BasicReturnMessage::from(returned).delivery.data, b"1");
}
