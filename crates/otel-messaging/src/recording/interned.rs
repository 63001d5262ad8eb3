//! Strings that live as long as the process.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{LazyLock, PoisonError, RwLock},
};

/// The maximum number of interned strings.
const INTERNED: usize = 10_000;

/// Returns the interned copy of a string. A span takes the interned copy without an allocation or a reference count. Beyond
/// [`INTERNED`] strings, the result is an ordinary copy.
pub(crate) fn intern(text: &str) -> Cow<'static, str> {
    static STRINGS: LazyLock<RwLock<HashSet<&'static str>>> = LazyLock::new(RwLock::default);
    if let Some(&found) = STRINGS.read().unwrap_or_else(PoisonError::into_inner).get(text) {
        return Cow::Borrowed(found);
    }
    let mut strings = STRINGS.write().unwrap_or_else(PoisonError::into_inner);
    match strings.get(text) {
        Some(&found) => Cow::Borrowed(found),
        None if strings.len() >= INTERNED => Cow::Owned(text.to_owned()),
        None => {
            let kept: &'static str = Box::leak(text.into());
            strings.insert(kept);
            Cow::Borrowed(kept)
        }
    }
}
