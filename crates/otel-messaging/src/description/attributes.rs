//! Attributes of one span.

use opentelemetry::{Key, KeyValue, Value};

/// Attributes of one span, with room for those that come late.
///
/// An adapter sets each key once: nothing looks for an earlier value. What a user's hook sets replaces it.
#[derive(Debug, Clone, Default)]
pub struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    /// Adds one attribute.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    /// Adds one attribute, if it has a value.
    pub fn set_opt(&mut self, key: impl Into<Key>, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Adds a number; one that does not fit the type that attributes have for numbers is left out.
    pub fn set_number(&mut self, key: impl Into<Key>, number: impl TryInto<i64>) {
        if let Ok(number) = number.try_into() {
            self.set(key, number);
        }
    }

    /// Adds others. One of a key that is there already replaces the earlier value.
    pub(crate) fn merge(&mut self, others: Self) {
        for other in others.0 {
            match self.0.iter_mut().find(|earlier| earlier.key == other.key) {
                Some(earlier) => *earlier = other,
                None => self.0.push(other),
            }
        }
    }
}
