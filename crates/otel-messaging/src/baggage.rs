//! W3C baggage, as text.

use opentelemetry::{
    baggage::{Baggage, KeyValueMetadata},
    propagation::Injector,
};

use crate::w3c::{BAGGAGE, ContextHeaders};

/// What W3C baggage allows: bytes in a header, and entries.
const MAX_BYTES: usize = 8_192;
const MAX_ENTRIES: usize = 64;

/// Writes `baggage`, if there is any.
#[inline]
pub(crate) fn inject(baggage: &Baggage, headers: &mut dyn Injector) {
    if !baggage.is_empty() {
        headers.set(BAGGAGE, header(baggage));
    }
}

/// What the header says.
pub(crate) fn read([.., baggage]: &ContextHeaders<'_>) -> Option<Baggage> {
    let text = str::from_utf8(baggage.filter(|text| text.len() <= MAX_BYTES)?).ok()?;
    let entry = |entry: &str| {
        let (pair, metadata) = entry.split_once(';').unwrap_or((entry, ""));
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (decoded(name)?, decoded(value.trim())?);
        let metadata: Vec<_> = metadata.split(';').filter_map(|one| Some(decoded(one)?.trim().to_owned())).collect();
        Some(KeyValueMetadata::new(name.trim().to_owned(), value, metadata.join(";")))
    };
    Some(text.split(',').take(MAX_ENTRIES).filter_map(entry).collect())
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
            // Several properties, with space around them.
            encode(metadata, b" ;=", &mut text);
        }
    }
    text
}

/// Percent-encoded, but for `plain`. The SDK leaves `%` and `\` as they are, and all of the metadata: another value would
/// arrive than was sent, and a comma in the metadata would begin an entry.
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

/// Percent-decoded; `None` for what is not UTF-8 then. A `%` that begins no such code stays.
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
