//! Classifies subjects by their form.

pub(crate) fn has_wildcards(subject: &str) -> bool {
    subject.split('.').any(|token| token == "*" || token == ">")
}

/// `$JS.API.…` and `$JS.{domain}.API.…`.
#[inline]
pub(crate) fn is_api(subject: &str) -> bool {
    subject.strip_prefix("$JS.").is_some_and(|rest| {
        rest.starts_with("API.") || rest.split_once('.').is_some_and(|(_, rest)| rest.starts_with("API."))
    })
}

/// Whether a publish to this subject settles a message.
#[inline]
pub(crate) fn is_acknowledgement(subject: &str) -> bool {
    subject.starts_with("$JS.ACK.")
}

/// Whether a subject is temporary: an inbox, a subject of acknowledgements, or one that ends in an id, as libraries make reply
/// subjects.
pub(crate) fn is_temporary(subject: &str, inbox_prefix: &str) -> bool {
    let is_own = || !inbox_prefix.is_empty() && subject.strip_prefix(inbox_prefix).is_some_and(begins_with_id);
    subject.starts_with("_INBOX.") || subject.starts_with("$JS.ACK.") || is_own() || ends_with_id(subject)
}

/// Whether this is the rest of an inbox after its prefix: other subjects may have a custom prefix too.
fn begins_with_id(rest: &str) -> bool {
    rest.split('.').next().is_some_and(is_id)
}

/// A token of 22 letters may be a word; with a digit it is an id.
fn ends_with_id(subject: &str) -> bool {
    let last = subject.rsplit('.').next();
    last.is_some_and(|last| is_id(last) && last.bytes().any(|byte| byte.is_ascii_digit()))
}

/// Whether NUID could have made the token.
fn is_id(token: &str) -> bool {
    token.len() == 22 && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
