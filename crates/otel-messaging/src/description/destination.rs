//! The destination that a message is sent to or received from.

use std::{net::IpAddr, sync::Arc};

use opentelemetry::Value;

use crate::description::{
    operation_name::{OperationName, OperationType},
    semconv::attribute,
};

/// The destination that a message is sent to or received from, as an adapter describes it.
///
/// Source: "Span name" and "Messaging attributes" of the messaging spans convention.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) template: Option<Arc<str>>,
    pub(crate) temporary: bool,
    pub(crate) anonymous: bool,
    pub(crate) reply_address: bool,
    pub(crate) server: Option<(Arc<str>, u16)>,
    pub(crate) common_name: Option<CommonName>,
    attributes: Vec<(&'static str, Value)>,
}

/// Builds the common name of several destinations from the parts that their keys share.
pub(crate) type CommonName = fn(&[&str]) -> String;

impl Destination {
    /// Creates a destination with this name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Creates the description of an operation on the server itself. The span is named after the server's address, if that is
    /// known.
    pub fn server(address: Option<(&str, u16)>) -> Self {
        match address {
            Some((host, port)) => Self::default().at(host, port),
            None => Self::default(),
        }
    }

    /// Sets the destination's server: `server.address` and `server.port`. If the host is an IP address, the server is the network
    /// peer too (`network.peer.address` and `network.peer.port`), except on create and process spans, which have no peer
    /// attributes in the convention. A host name may stand for several hosts, so it is not a peer.
    pub fn at(mut self, host: impl Into<Arc<str>>, port: u16) -> Self {
        self.server = Some((host.into(), port));
        self
    }

    /// Sets the pattern that the name was made from. The pattern replaces the name in span names and metrics.
    pub fn template(mut self, template: impl Into<Arc<str>>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// Marks the destination as temporary: it is deleted with its client. Its name stays out of span names and metrics.
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// Marks the destination as anonymous: the broker generated its name. Its name stays out of span names and metrics.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Marks the destination as the address at which a message that is being processed is
    /// [answered](crate::adapter::OperationStart::answers). The destination is [`temporary`](Self::temporary), unless the user's
    /// [`with_destination_template`](crate::InstrumentationBuilder::with_destination_template) gives it a template. Its
    /// [operation](crate::adapter::Telemetry::operation) needs another key than an operation on the same destination that answers
    /// no message.
    pub fn reply_address(mut self) -> Self {
        self.reply_address = true;
        self
    }

    /// Sets the function that names a batch whose messages have several destinations. The core calls `name` with the key of the
    /// [operation](crate::adapter::Telemetry::operation), with empty strings in place of the parts that differ. A batch has no
    /// destination name if `name` returns an empty string, or is not set.
    pub fn common_name(mut self, name: fn(&[&str]) -> String) -> Self {
        self.common_name = Some(name);
        self
    }

    /// Adds an attribute that is the same for every message of this destination.
    ///
    /// The attribute is set on spans. Of these attributes, metrics have only `messaging.consumer.group.name` and
    /// `messaging.destination.subscription.name`.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    pub(crate) fn is_stable(&self) -> bool {
        !self.temporary && !self.anonymous
    }

    /// The attributes of an operation on this destination that are the same for all messages.
    pub(crate) fn into_attributes(self, system: &'static str, name: OperationName) -> Vec<(&'static str, Value)> {
        let mut all: Vec<(&'static str, Value)> = vec![
            (attribute::MESSAGING_SYSTEM, system.into()),
            (attribute::MESSAGING_OPERATION_NAME, name.name.into()),
            (attribute::MESSAGING_OPERATION_TYPE, name.kind.as_str().into()),
        ];
        all.extend(self.name.map(|name| (attribute::MESSAGING_DESTINATION_NAME, name.into())));
        all.extend(self.template.map(|template| (attribute::MESSAGING_DESTINATION_TEMPLATE, template.into())));
        // In the convention, settle spans do not have these attributes.
        if name.kind != OperationType::Settle {
            all.extend(self.temporary.then_some((attribute::MESSAGING_DESTINATION_TEMPORARY, true.into())));
            all.extend(self.anonymous.then_some((attribute::MESSAGING_DESTINATION_ANONYMOUS, true.into())));
        }
        all.extend(self.attributes);
        if let Some((host, port)) = self.server {
            all.extend(server_attributes(host, port, name.kind.has_peer()));
        }
        all
    }
}

/// The attributes of a server. A host that is an IP address is the network peer too, on spans that have a peer (`has_peer`). A
/// host name may stand for several hosts.
pub(crate) fn server_attributes(
    host: Arc<str>,
    port: u16,
    has_peer: bool,
) -> impl Iterator<Item = (&'static str, Value)> {
    let (host, port) = (Value::from(host), Value::from(i64::from(port)));
    let is_peer = has_peer && host.as_str().parse::<IpAddr>().is_ok();
    let peer = is_peer
        .then(|| [(attribute::NETWORK_PEER_ADDRESS, host.clone()), (attribute::NETWORK_PEER_PORT, port.clone())]);
    [(attribute::SERVER_ADDRESS, host), (attribute::SERVER_PORT, port)].into_iter().chain(peer.into_iter().flatten())
}

/// Whether a name is a UUID. A program generates such a name for one use, so the core makes the destination anonymous. Adapters
/// call this function if the UUID is only a part of the destination's name.
pub fn is_uuid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_is_the_peers() {
        let is_peer = |host: &str| server_attributes(host.into(), 9092, true).count() == 4;
        assert_eq!(["10.0.0.7", "::1", "localhost", "10.0.0.7.example"].map(is_peer), [true, true, false, false]);
        assert_eq!(server_attributes("10.0.0.7".into(), 9092, false).count(), 2);
    }
}
