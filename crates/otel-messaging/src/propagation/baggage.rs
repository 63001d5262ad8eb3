//! W3C baggage as text, within the limits of the W3C specification.

use std::cmp::Reverse;

use opentelemetry::{baggage::Baggage, propagation::Injector};

use crate::description::context_headers::{BAGGAGE, MAX_BAGGAGE};

/// The number of entries that W3C requires every reader to accept. Many readers accept no more.
///
/// Source: "Limits" of W3C Baggage.
const MAX_ENTRIES: usize = 64;

/// Whether the written header omits entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct LeftOut(pub(crate) bool);

/// Writes `baggage`, if there is any.
#[inline]
pub(crate) fn inject(baggage: &Baggage, headers: &mut dyn Injector) -> LeftOut {
    if baggage.is_empty() {
        return LeftOut(false);
    }
    let mut bounded = Bounded::new(headers);
    bounded.set(BAGGAGE, header(baggage));
    bounded.left_out
}

/// Headers that keep baggage within the limits, whichever propagator writes it.
pub(crate) struct Bounded<'a> {
    headers: &'a mut dyn Injector,
    pub(crate) left_out: LeftOut,
}

impl<'a> Bounded<'a> {
    #[inline]
    pub(crate) fn new(headers: &'a mut dyn Injector) -> Self {
        Self { headers, left_out: LeftOut(false) }
    }
}

impl Injector for Bounded<'_> {
    #[inline]
    fn set(&mut self, name: &str, mut value: String) {
        if name.eq_ignore_ascii_case(BAGGAGE) && !is_within_limits(&value) {
            value = cut_to_limits(&value);
            self.left_out = LeftOut(true);
        }
        self.headers.set(name, value);
    }

    fn reserve(&mut self, additional: usize) {
        self.headers.reserve(additional);
    }
}

#[inline]
fn is_within_limits(header: &str) -> bool {
    header.len() <= MAX_BAGGAGE
        // Each entry takes at least one byte and a comma.
        && (header.len() < 2 * MAX_ENTRIES || header.bytes().filter(|&byte| byte == b',').count() < MAX_ENTRIES)
}

/// Removes whole entries until the header is within the limits: the longest entry first, then by name.
fn cut_to_limits(header: &str) -> String {
    let entries: Vec<_> = header.split(',').filter(|entry| !entry.trim().is_empty()).collect();
    let mut longest: Vec<_> = (0..entries.len()).collect();
    longest.sort_by_key(|&at| (Reverse(entries[at].len()), name(entries[at]), entries[at]));
    // Each entry counts with a comma, although the last entry has none.
    let (mut count, mut bytes) = (entries.len(), entries.iter().map(|entry| entry.len() + 1).sum::<usize>());
    let mut kept = vec![true; entries.len()];
    for at in longest {
        if count <= MAX_ENTRIES && bytes <= MAX_BAGGAGE + 1 {
            break;
        }
        (count, bytes) = (count - 1, bytes - entries[at].len() - 1);
        kept[at] = false;
    }
    let kept: Vec<_> = entries.into_iter().zip(kept).filter_map(|(entry, kept)| kept.then_some(entry)).collect();
    kept.join(",")
}

fn name(entry: &str) -> &str {
    entry.split_once(['=', ';']).map_or(entry, |(name, _)| name).trim()
}

/// Whether the header is UTF-8 and within the limits.
pub(crate) fn is_readable(header: &[u8]) -> bool {
    str::from_utf8(header).is_ok_and(is_within_limits)
}

/// Returns the baggage of the header, and whether all of the header was read. `None` if the header is not UTF-8 or is too long.
pub(crate) fn read(header: &[u8]) -> Option<(Baggage, bool)> {
    let text = str::from_utf8(header).ok().filter(|text| text.len() <= MAX_BAGGAGE)?;
    let (mut baggage, mut whole) = (Baggage::new(), true);
    for (number, text) in text.split(',').enumerate() {
        let read = (number < MAX_ENTRIES).then(|| entry(text)).flatten();
        whole &= read.is_some_and(|(entry, whole)| insert(&mut baggage, entry) && whole) || text.trim().is_empty();
    }
    Some((baggage, whole))
}

/// Returns name, value and properties of an entry, and whether all of the entry was read.
fn entry(entry: &str) -> Option<([String; 3], bool)> {
    let (pair, metadata) = entry.split_once(';').unwrap_or((entry, ""));
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (decoded(name)?, decoded(value.trim())?);
    let mut whole = true;
    let properties = metadata.split(';').filter_map(|one| {
        let read = decoded(one);
        whole &= read.is_some();
        Some(read?.trim().to_owned())
    });
    let properties = properties.collect::<Vec<_>>().join(";");
    Some(([name.trim().to_owned(), value, properties], whole))
}

/// Whether the API accepted the entry. It rejects some characters in names.
fn insert(baggage: &mut Baggage, [name, value, properties]: [String; 3]) -> bool {
    let before = baggage.len();
    baggage.insert_with_metadata(name, value, properties).is_some() || baggage.len() > before
}

fn header(baggage: &Baggage) -> String {
    let mut text = String::new();
    for (name, (value, metadata)) in baggage {
        if !text.is_empty() {
            text.push(',');
        }
        encode(name.as_str().trim(), b"", &mut text);
        text.push('=');
        encode(value.as_str().trim(), b"", &mut text);
        let metadata = metadata.as_str().trim();
        if !metadata.is_empty() {
            text.push(';');
            // The metadata consists of properties, separated by `;`, which may have spaces around them.
            encode(metadata, b" ;=", &mut text);
        }
    }
    text
}

/// Percent-encodes all special bytes except those of `plain`. The SDK encodes neither `%`, nor `\`, nor any metadata: the
/// receiver would read another value, and a comma in the metadata would start a new entry.
fn encode(text: &str, plain: &[u8], to: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        let special = matches!(byte, b'"' | b'%' | b',' | b';' | b'=' | b'\\') || !byte.is_ascii_graphic();
        if special && !plain.contains(&byte) {
            to.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        } else {
            to.push(char::from(byte));
        }
    }
}

/// Percent-decodes a text. Returns `None` if the result is not UTF-8. A `%` that starts no valid code stays unchanged.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let code = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(high).zip(hex(low)).map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = code.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the written header, and whether it omits entries.
    fn written(name: &str, header: &str) -> (Vec<(String, String)>, bool) {
        #[derive(Default)]
        struct Pairs(Vec<(String, String)>);

        impl Injector for Pairs {
            fn set(&mut self, name: &str, value: String) {
                self.0.push((name.to_owned(), value));
            }
        }

        let mut pairs = Pairs::default();
        let mut bounded = Bounded::new(&mut pairs);
        bounded.set(name, header.to_owned());
        let LeftOut(left_out) = bounded.left_out;
        (pairs.0, left_out)
    }

    fn cut(header: &str) -> String {
        let (mut pairs, left_out) = written("Baggage", header);
        let (name, value) = pairs.remove(0);
        assert_eq!((&*name, pairs.len()), ("Baggage", 0));
        assert_eq!(left_out, value != header);
        value
    }

    /// An entry of this number of bytes.
    fn long(name: &str, bytes: usize) -> String {
        format!("{name}={}", "x".repeat(bytes - name.len() - 1))
    }

    #[test]
    fn a_header_at_the_limits_is_written_whole_and_a_longer_is_cut() {
        let (half, other) = (long("a", 4_095), long("b", 4_096));
        let at_the_limit = format!("{half},{other}");
        assert_eq!(at_the_limit.len(), 8_192);
        assert_eq!(cut(&at_the_limit), at_the_limit);
        assert_eq!(cut(&format!("{half}x,{other}")), other, "of two that are equally long the first by name goes");
        assert_eq!(cut(&format!("{other},{half}x")), other);
        assert_eq!(cut(&format!("{},{at_the_limit}", long("c", 4_097))), at_the_limit);
        assert_eq!(cut(&long("only", 8_192)).len(), 8_192);
        assert_eq!(cut(&long("only", 8_193)), "");

        let many = |count: usize| (0..count).map(|number| format!("{number}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(cut(&many(64)), many(64));
        assert_eq!(cut(&many(65)), many(65).replace(",10=1", ""), "the first by name of the longest");
        assert_eq!(written("x-other", &long("a", 9_000)), (vec![("x-other".to_owned(), long("a", 9_000))], false));
    }

    #[test]
    fn what_is_no_text_cannot_be_read() {
        for (header, is_text) in [(&b"a=1"[..], true), (b"", true), (b"a=1\xff", false), (b"\xc3,a=1", false)] {
            assert_eq!(is_readable(header), is_text);
            assert_eq!(read(header).map(|(_, whole)| whole), is_text.then_some(true));
        }
    }

    #[test]
    fn the_longest_entries_go_first_and_the_others_keep_their_order() {
        let (small, big, bigger) = (long("z", 3_000), long("b", 4_000), long("a;property", 4_500));
        assert_eq!(cut(&[&*bigger, "k=1", &big, &small].join(",")), ["k=1", &big, &small].join(","));
        assert_eq!(cut(&[&*small, &big, "k=1", &bigger, ""].join(",")), [&*small, &big, "k=1"].join(","));
    }

    proptest! {
        #[test]
        fn baggage_stays_within_the_limits_and_loses_no_more_than_it_must(
            entries in prop::collection::vec(("[a-z]{1,3}", 0..400_usize, "(;[a-z]{0,9})?"), 0..90),
        ) {
            let text = |(name, value, metadata)| format!("{name}={}{metadata}", "x".repeat(value));
            let entries: Vec<String> = entries.into_iter().map(text).collect();
            let header = entries.join(",");
            let cut = cut(&header);
            prop_assert!(cut.len() <= MAX_BAGGAGE && cut.split(',').count() <= MAX_ENTRIES);
            // A reference implementation, which removes one entry at a time.
            let mut rest = entries.clone();
            while rest.join(",").len() > MAX_BAGGAGE || rest.len() > MAX_ENTRIES {
                let longest = rest.iter().map(String::len).max().unwrap();
                let next = rest.iter().filter(|entry| entry.len() == longest).min_by_key(|entry| (name(entry), *entry));
                let at = rest.iter().position(|entry| Some(entry) == next).unwrap();
                rest.remove(at);
            }
            prop_assert_eq!(cut, rest.join(","));
        }
    }
}
