//! The attributes of one span.

use opentelemetry::{Key, KeyValue, Value};

/// The attributes of one span, with spare capacity for later attributes.
///
/// An adapter sets each key once: `set` does not look for an earlier value. An attribute that a user's hook sets replaces an
/// earlier value.
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

    /// Adds a number. A number that does not fit `i64` is left out.
    pub fn set_number(&mut self, key: impl Into<Key>, number: impl TryInto<i64>) {
        if let Ok(number) = number.try_into() {
            self.set(key, number);
        }
    }

    /// Adds other attributes. An attribute replaces an earlier attribute with the same key.
    pub(crate) fn merge(&mut self, others: Self) {
        for other in others.0 {
            match self.0.iter_mut().find(|earlier| earlier.key == other.key) {
                Some(earlier) => *earlier = other,
                None => self.0.push(other),
            }
        }
    }
}
