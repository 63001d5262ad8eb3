//! Names, templates and numbers of all kinds.

use otel_messaging::adapter::Attributes;
use proptest::prelude::*;

use crate::queue::*;

#[test]
fn names_behind_a_template_are_not_those_that_are_shown() {
    let sdk = Sdk::new();
    let template = |name: &str| name.starts_with("orders.").then(|| "orders.{id}".to_owned());
    let builder = sdk.instrumentation_builder().with_destination_template(template).with_destination_limit(2);
    let mut queue = Queue::new(builder.build());
    for destination in ["orders.1", "orders.2", "orders.3", "refunds", "orders.4", "returns"] {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
    let template = "orders.{id}";
    let order =
        |name| push_to(name).named("push orders.{id}").attribute(attribute::MESSAGING_DESTINATION_TEMPLATE, template);
    let orders = ["orders.1", "orders.2", "orders.3"].map(order);
    sdk.assert(orders.into_iter().chain([push_to("refunds"), order("orders.4"), push_to("returns").named("push")]));
}

#[test]
fn a_number_that_does_not_fit_is_left_out() {
    let mut attributes = Attributes::default();
    attributes.set_number("messaging.batch.message_count", i64::MAX as u64 + 1);
    attributes.set_number("messaging.message.body.size", i64::MAX as u64);
    assert_eq!(format!("{attributes:?}").matches("KeyValue").count(), 1, "{attributes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a name is made of, and whatever a user's function makes of it: the message passes, and what is told of it is
    /// the name as it is.
    #[test]
    fn any_name_and_any_template_are_recorded_unchanged(
        name in prop_oneof![any::<String>(), "[\\x00-\\x1f\\x7f]{0,64}"],
        template in prop::option::of(prop_oneof![any::<String>(), "[\\x00-\\x1f\\x7f]{0,64}", "a{1000,1100}"]),
    ) {
        let sdk = Sdk::new();
        let given = template.clone();
        let builder = sdk.all_signals_builder().with_destination_template(move |_| given.clone());
        let mut queue = Queue::new(builder.build());
        // Once described anew and once from the cache.
        for _ in 0..2 {
            queue.push_to(&name, HeaderMap::default(), "1", |_| ()).unwrap();
            queue.pop_from(&name).unwrap().in_scope(|| ());
        }
        let shown = template.as_ref().unwrap_or(&name);
        let shown = if shown.len() > 1_024 { "" } else { shown };
        for span in sdk.spans() {
            let named = span.name.split_once(' ').map_or("", |(_, destination)| destination);
            prop_assert_eq!(named, shown);
            let of = |key| value_of(&span, key).map(|value| value.as_str().into_owned());
            prop_assert_eq!(of("messaging.destination.name"), Some(name.clone()));
            prop_assert_eq!(of("messaging.destination.template"), template.clone());
        }
        prop_assert_eq!(sdk.spans().len(), 4);
    }
}
