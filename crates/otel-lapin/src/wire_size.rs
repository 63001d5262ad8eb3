//! The size of a content header frame on the wire, in bytes.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use otel_messaging::adapter::HeaderBudget;

/// Bytes of a header table's entry on the wire beside its name and its text: two lengths and a type.
const ENTRY: usize = 6;

/// The size on the wire of the content header frame that carries these properties.
fn content_header_size(properties: &BasicProperties) -> usize {
    // Frame type, channel, length and end; class, weight, body size and the flags of the properties.
    const FRAME: usize = 8 + 14;
    let short = |text: &Option<ShortString>| text.as_ref().map_or(0, short_size);
    FRAME
        + short(properties.content_type())
        + short(properties.content_encoding())
        + properties.headers().as_ref().map_or(0, table_size)
        + properties.delivery_mode().map_or(0, |_| 1)
        + properties.priority().map_or(0, |_| 1)
        + short(properties.correlation_id())
        + short(properties.reply_to())
        + short(properties.expiration())
        + short(properties.message_id())
        + properties.timestamp().map_or(0, |_| 8)
        + short(properties.kind())
        + short(properties.user_id())
        + short(properties.app_id())
        + short(properties.cluster_id())
}

/// The header budget of a content header frame of at most `limit` bytes: AMQP cannot split the frame.
pub(crate) fn header_budget(properties: &BasicProperties, limit: usize) -> HeaderBudget {
    let table = if properties.headers().is_some() { 0 } else { 4 };
    HeaderBudget::new(limit.saturating_sub(content_header_size(properties) + table), ENTRY)
}

fn short_size(text: &ShortString) -> usize {
    1 + text.as_str().len()
}

fn table_size(table: &FieldTable) -> usize {
    4 + table.inner().iter().map(|(name, value)| short_size(name) + value_size(value)).sum::<usize>()
}

fn value_size(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => short_size(text),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(value_size).sum::<usize>(),
        AMQPValue::FieldTable(table) => table_size(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{
        fixed::{long, table},
        without_headers,
    };

    #[test]
    fn sizes_are_those_on_the_wire() {
        // One byte for the type, then the protocol's size of the value.
        let sizes = [
            (AMQPValue::Void, 1),
            (AMQPValue::Boolean(true), 2),
            (AMQPValue::ShortShortInt(1), 2),
            (AMQPValue::ShortShortUInt(1), 2),
            (AMQPValue::ShortInt(1), 3),
            (AMQPValue::ShortUInt(1), 3),
            (AMQPValue::LongInt(1), 5),
            (AMQPValue::LongUInt(1), 5),
            (AMQPValue::Float(1.0), 5),
            (AMQPValue::DecimalValue(lapin::types::DecimalValue { scale: 1, value: 1 }), 6),
            (AMQPValue::LongLongInt(1), 9),
            (AMQPValue::Double(1.0), 9),
            (AMQPValue::Timestamp(1), 9),
            (AMQPValue::ShortString("abc".into()), 5),
            (long("abc"), 8),
            (AMQPValue::ByteArray(vec![1, 2, 3].into()), 8),
            (AMQPValue::FieldArray(vec![long("abc"), AMQPValue::Void].into()), 14),
            (AMQPValue::FieldTable(table([("ab", AMQPValue::Void)])), 9),
        ];
        for (value, size) in sizes {
            assert_eq!(value_size(&value), size, "{value:?}");
        }

        assert_eq!(content_header_size(&BasicProperties::default()), 22);
        let text = || ShortString::from("abc");
        let properties = BasicProperties::default()
            .with_content_type(text())
            .with_content_encoding(text())
            .with_headers(table([("ab", long("abc"))]))
            .with_delivery_mode(1)
            .with_priority(1)
            .with_correlation_id(text())
            .with_reply_to(text())
            .with_expiration(text())
            .with_message_id(text())
            .with_timestamp(1)
            .with_type(text())
            .with_user_id(text())
            .with_app_id(text())
            .with_cluster_id(text());
        assert_eq!(content_header_size(&properties), 22 + 10 * 4 + (4 + 3 + 8) + 2 + 8);
        assert_eq!(content_header_size(&without_headers(&properties)), 22 + 10 * 4 + 2 + 8);
        let added = content_header_size(&BasicProperties::default().with_headers(table([("ab", long("abc"))])));
        assert_eq!(header_budget(&BasicProperties::default(), added), HeaderBudget::new(5 + ENTRY, ENTRY));
    }
}
