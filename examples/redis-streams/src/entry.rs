use opentelemetry::propagation::{Extractor, Injector};
use otel_messaging::adapter::Headers;

/// A field whose name begins with this prefix is a header. `with_captured_headers(["*"])` does not record other fields.
pub const HEADER_PREFIX: &str = "header:";

/// The names and values of an entry's fields, headers included, in the order of Redis. [`Injector`] and [`Extractor`] write and
/// read the headers. Redis refuses an entry without fields, and would accept it with headers: such a send is not recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Entry {
    /// The headers that are text; others are ignored.
    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(HEADER_PREFIX.as_bytes())?;
            Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
        })
    }
}

impl Injector for Entry {
    fn set(&mut self, key: &str, value: String) {
        let name = format!("{HEADER_PREFIX}{key}").into_bytes();
        self.0.retain(|(other, _)| *other != name);
        if !value.is_empty() {
            self.0.push((name, value.into_bytes()));
        }
    }
}

impl Extractor for Entry {
    fn get(&self, key: &str) -> Option<&str> {
        self.headers().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    fn keys(&self) -> Vec<&str> {
        self.headers().map(|(name, _)| name).collect()
    }
}

impl Headers for Entry {
    fn is_empty(&self) -> bool {
        self.headers().next().is_none()
    }
}
