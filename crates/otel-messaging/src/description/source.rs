//! The consumer that a message comes from.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

/// For adapters: the identity of a source of messages, such as a consumer or a subscription.
///
/// [`sequential`](crate::sequential) needs the source: a message stays in hand while the loop polls another source, until the
/// loop polls the message's own source again. A stream, a fetch and a clone of one consumer are the same source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId(u64);

impl SourceId {
    /// Creates a source that differs from all others.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each call creates another source")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the source with this name within this source, for example a queue that is polled through a channel. The same name
    /// gives the same source.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.0, name).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::SourceId;

    #[test]
    fn a_source_is_known_by_where_it_belongs_and_by_its_name() {
        let (one, other) = (SourceId::new(), SourceId::new());
        assert_ne!(one, other);
        assert_eq!(one.named("orders"), one.named("orders"));
        assert_ne!(one.named("orders"), one.named("refunds"));
        assert_ne!(one.named("orders"), other.named("orders"));
        assert_ne!(one.named(""), one);
    }
}
