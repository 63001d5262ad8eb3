//! The telemetry of one connection: operations, names of destinations, the server.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use lapin::{
    BasicProperties,
    protocol::constants::FRAME_MIN_SIZE,
    types::{DeliveryTag, FrameSize, ShortString},
    uri::AMQPUri,
};
use otel_messaging::{
    Instrumentation,
    adapter::{self, Attributes, Destination, OperationName, OperationStart, PreparedOperation, Telemetry, is_uuid},
    semconv::{attribute, extension},
};

pub(crate) const CREATE: OperationName = OperationName::create("create");
pub(crate) const PUBLISH: OperationName = OperationName::send("publish");
pub(crate) const GET: OperationName = OperationName::receive("get");
/// An error of a consumer. Its messages are pushed by the broker and have no receive span.
pub(crate) const CONSUME: OperationName = OperationName::receive("consume");
/// Processing of a message that the broker pushed.
pub(crate) const PROCESS: OperationName = OperationName::process("process");
/// Processing of a message that `basic_get` received.
pub(crate) const PROCESS_GOT: OperationName = PROCESS.of(GET);
pub(crate) const ACK: OperationName = OperationName::settle("ack");
pub(crate) const NACK: OperationName = OperationName::settle("nack");
pub(crate) const REJECT: OperationName = OperationName::settle("reject");

const SYSTEM: &str = "rabbitmq";

/// Maximum number of exclusive queues that one connection remembers.
const EXCLUSIVE_QUEUES: usize = 1_000;

/// The telemetry of one connection, and of all its channels.
#[derive(Debug)]
pub(crate) struct ClientTelemetry {
    pub(crate) core: Telemetry,
    server: Server,
}

/// The server and this connection to it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: Option<(Arc<str>, u16)>,
    frame_max: FrameSize,
    /// Names of exclusive queues. None where handles of several connections share this value: a queue of the same name may be
    /// shared on another connection.
    exclusive: Option<Arc<RwLock<HashSet<Box<str>>>>>,
}

/// Where a message comes from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) queue: ShortString,
}

impl Route {
    pub(crate) fn of(delivery: &lapin::message::Delivery, queue: ShortString) -> Self {
        Self { exchange: delivery.exchange.clone(), routing_key: delivery.routing_key.clone(), queue }
    }

    /// `{exchange}:{routing key}:{queue}`, without empty parts and without a routing key that equals the queue's name.
    pub(crate) fn name(&self) -> String {
        route_name([self.exchange.as_str(), self.routing_key.as_str(), self.queue.as_str()])
    }
}

/// The host and port that a URI names.
pub(crate) fn server_address(uri: &AMQPUri) -> (String, u16) {
    (uri.authority.host.clone(), uri.authority.port)
}

impl Server {
    /// The server of a connection that this crate opened or wraps.
    pub(crate) fn connected(address: Option<(String, u16)>, connection: &lapin::Connection) -> Self {
        Self {
            address: address.map(|(host, port)| (host.into(), port)),
            frame_max: connection.configuration().frame_max(),
            exclusive: Some(Arc::default()),
        }
    }

    /// The server of a raw handle, with the smallest `frame_max` that AMQP allows.
    fn unknown() -> Self {
        Self { address: None, frame_max: FRAME_MIN_SIZE, exclusive: None }
    }

    fn is_exclusive(&self, queue: &str) -> bool {
        let known = |all: &RwLock<HashSet<_>>| all.read().unwrap_or_else(PoisonError::into_inner).contains(queue);
        self.exclusive.as_deref().is_some_and(known)
    }
}

impl ClientTelemetry {
    /// The telemetry that all living raw handles share: there may be one handle for each message. After the last one is dropped
    /// the next one starts with new telemetry, so that another SDK is found.
    pub(crate) fn for_raw_handles() -> Arc<Self> {
        static UNKNOWN: Mutex<Weak<ClientTelemetry>> = Mutex::new(Weak::new());
        let mut unknown = UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::new(Server::unknown()));
            *unknown = Arc::downgrade(&new);
            new
        })
    }

    pub(crate) fn new(server: Server) -> Self {
        let scope = adapter::scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Self { core: Telemetry::new(scope, SYSTEM), server }
    }

    /// The same server under another instrumentation.
    pub(crate) fn instrumented(&self, instrumentation: Instrumentation) -> Self {
        let telemetry = Self::new(self.server.clone());
        telemetry.core.instrument(instrumentation);
        telemetry
    }

    /// Remembers an exclusive queue, which the broker deletes when the connection ends.
    pub(crate) fn remember_exclusive_queue(&self, queue: &ShortString) {
        let Some(exclusive) = &self.server.exclusive else { return };
        let mut exclusive = exclusive.write().unwrap_or_else(PoisonError::into_inner);
        if exclusive.len() < EXCLUSIVE_QUEUES {
            exclusive.insert(queue.as_str().into());
        }
    }

    /// A publish to this exchange with this routing key. `answers` says that it replies to a message.
    #[inline]
    pub(crate) fn publish_operation(&self, exchange: &str, routing_key: &str, answers: bool) -> Arc<PreparedOperation> {
        self.send_operation(PUBLISH, exchange, routing_key, answers, || {
            self.with_routing_key(self.exchange_destination(exchange, routing_key), routing_key)
        })
    }

    /// The creation of a message that is published to this exchange later.
    pub(crate) fn create_operation(&self, exchange: &str, routing_key: &str, answers: bool) -> Arc<PreparedOperation> {
        // The convention has no routing key on create spans.
        self.send_operation(CREATE, exchange, routing_key, answers, || {
            self.with_server(self.exchange_destination(exchange, routing_key))
        })
    }

    #[inline]
    fn send_operation(
        &self,
        name: OperationName,
        exchange: &str,
        routing_key: &str,
        answers: bool,
        describe: impl FnOnce() -> Destination,
    ) -> Arc<PreparedOperation> {
        if answers {
            return self.core.operation(name, &[exchange, routing_key, "answer"], || describe().reply_address());
        }
        self.core.operation(name, &[exchange, routing_key], describe)
    }

    fn exchange_destination(&self, exchange: &str, routing_key: &str) -> Destination {
        let name = match (exchange, routing_key) {
            ("", "") => "amq.default".to_owned(),
            _ => join_non_empty([exchange, routing_key]),
        };
        // The default exchange routes to the queue of that name.
        let queue = if exchange.is_empty() { routing_key } else { "" };
        self.with_queue(Destination::named(name), queue)
    }

    /// An operation on messages of this route.
    #[inline]
    pub(crate) fn operation_at(&self, name: OperationName, route: &Route) -> Arc<PreparedOperation> {
        let (exchange, routing_key, queue) =
            (route.exchange.as_str(), route.routing_key.as_str(), route.queue.as_str());
        self.core.operation(name, &[exchange, routing_key, queue], || {
            let called = route.name();
            if called.is_empty() {
                return self.with_server(Destination::server(None));
            }
            let destination = self.with_queue(Destination::named(called).common_name(common_name), queue);
            // The convention has no routing key on settle spans.
            if [ACK, NACK, REJECT].contains(&name) {
                self.with_server(destination)
            } else {
                self.with_routing_key(destination, routing_key)
            }
        })
    }

    fn with_queue(&self, destination: Destination, queue: &str) -> Destination {
        if queue.starts_with("amq.rabbitmq.reply-to") {
            return destination.temporary().anonymous();
        }
        let destination = if self.server.is_exclusive(queue) { destination.temporary() } else { destination };
        if queue.starts_with("amq.gen-") || is_uuid(queue) { destination.anonymous() } else { destination }
    }

    fn with_routing_key(&self, destination: Destination, routing_key: &str) -> Destination {
        let destination = self.with_server(destination);
        if routing_key.is_empty() {
            return destination;
        }
        destination.with(attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, routing_key.to_owned())
    }

    fn with_server(&self, destination: Destination) -> Destination {
        match &self.server.address {
            Some((host, port)) => destination.at(host.clone(), *port),
            None => destination,
        }
    }

    /// Maximum size of a frame in bytes. lapin's zero means no limit.
    #[inline]
    pub(crate) fn frame_max(&self) -> usize {
        usize::try_from(self.server.frame_max).ok().filter(|&max| max > 0).unwrap_or(usize::MAX)
    }
}

/// Whether a publish goes to the queue in the `reply_to` of the message that is being processed.
#[inline]
pub(crate) fn is_reply(start: &OperationStart, exchange: &str, routing_key: &str) -> bool {
    // The default exchange routes to the queue of that name.
    exchange.is_empty() && start.answers(routing_key)
}

/// The name of a route.
fn route_name([exchange, routing_key, queue]: [&str; 3]) -> String {
    join_non_empty([exchange, if routing_key == queue { "" } else { routing_key }, queue])
}

/// The name of several routes, by the parts that they have in common.
fn common_name(parts: &[&str]) -> String {
    parts.try_into().map(route_name).unwrap_or_default()
}

fn join_non_empty<const N: usize>(parts: [&str; N]) -> String {
    let mut name = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if !name.is_empty() {
            name.push(':');
        }
        name.push_str(part);
    }
    name
}

/// Attributes of one message that its operation does not have.
#[inline]
pub(crate) fn message_attributes(
    attributes: &mut Attributes,
    properties: &BasicProperties,
    payload: &[u8],
    telemetry: &ClientTelemetry,
) {
    set_text(attributes, attribute::MESSAGING_MESSAGE_ID, properties.message_id().as_ref());
    set_text(attributes, attribute::MESSAGING_MESSAGE_CONVERSATION_ID, properties.correlation_id().as_ref());
    telemetry.core.set_body_size(attributes, payload.len());
}

#[inline]
fn set_text(attributes: &mut Attributes, key: &'static str, text: Option<&ShortString>) {
    attributes.set_opt(key, text.map(|text| text.as_str().to_owned()));
}

/// The offset of a message from a stream queue.
#[inline]
pub(crate) fn stream_offset(attributes: &mut Attributes, offset: Option<u64>) {
    attributes.set_opt(extension::STREAM_OFFSET, offset.and_then(|offset| i64::try_from(offset).ok()));
}

/// Attributes of a message that its settlement has too.
#[derive(Debug, Clone)]
pub(crate) struct MessageIds {
    message: Option<ShortString>,
    conversation: Option<ShortString>,
    stream_offset: Option<u64>,
}

impl MessageIds {
    #[inline]
    pub(crate) fn of(properties: &BasicProperties, stream_offset: Option<u64>) -> Self {
        let (message, conversation) = (properties.message_id().clone(), properties.correlation_id().clone());
        Self { message, conversation, stream_offset }
    }

    #[inline]
    pub(crate) fn set(&self, attributes: &mut Attributes) {
        set_text(attributes, attribute::MESSAGING_MESSAGE_ID, self.message.as_ref());
        set_text(attributes, attribute::MESSAGING_MESSAGE_CONVERSATION_ID, self.conversation.as_ref());
        stream_offset(attributes, self.stream_offset);
    }
}

/// Attributes of a delivered message.
#[inline]
pub(crate) fn delivery_attributes(
    attributes: &mut Attributes,
    delivery: &lapin::message::Delivery,
    telemetry: &ClientTelemetry,
) {
    delivery_tag(attributes, delivery.delivery_tag);
    message_attributes(attributes, &delivery.properties, &delivery.data, telemetry);
}

/// A tag that does not fit into an attribute is omitted: the broker sends none so large, but a user may settle one.
#[inline]
pub(crate) fn delivery_tag(attributes: &mut Attributes, tag: DeliveryTag) {
    attributes.set_number(attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, tag);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Up to the 255 bytes that a name may have; often empty or a name with a meaning.
    fn name() -> impl Strategy<Value = ShortString> {
        let any = prop_oneof![
            2 => Just(String::new()),
            2 => "[a-z.:#*]{1,9}",
            1 => "amq\\.(gen-|rabbitmq\\.reply-to|default).{0,9}",
            1 => "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            1 => "[a-z\u{e4}]{100,255}",
            1 => ".{0,60}",
        ];
        any.prop_filter_map("too long", |name| ShortString::try_new(name).ok())
    }

    fn route() -> impl Strategy<Value = Route> {
        let routing_key = prop_oneof![2 => name().prop_map(Some), 1 => Just(None)];
        (name(), routing_key, name()).prop_map(|(exchange, routing_key, queue)| Route {
            exchange,
            routing_key: routing_key.unwrap_or_else(|| queue.clone()),
            queue,
        })
    }

    /// The parts that are not empty.
    fn parts(parts: &[&ShortString]) -> String {
        let parts: Vec<_> = parts.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()).collect();
        parts.join(":")
    }

    /// A queue that is exclusive, or that the server named.
    fn is_temporary(queue: &str, exclusive: bool) -> bool {
        let by_the_server = ["amq.gen-", "amq.rabbitmq.reply-to"].iter().any(|prefix| queue.starts_with(prefix));
        by_the_server || exclusive || is_uuid(queue)
    }

    fn client_telemetry() -> ClientTelemetry {
        // With its own limit on destinations and its own exclusive queues.
        ClientTelemetry::new(Server { exclusive: Some(Arc::default()), ..Server::unknown() })
            .instrumented(Instrumentation::builder().build())
    }

    /// The name of an operation's spans.
    fn span_name(operation: &PreparedOperation) -> String {
        let shown = format!("{operation:?}");
        let (_, from) = shown.split_once("span_name: ").unwrap();
        let (name, _) = from.split_once(", destination: ").unwrap();
        name.to_owned()
    }

    #[test]
    fn raw_handles_do_not_share_exclusive_queues() {
        let (here, elsewhere) = (ClientTelemetry::for_raw_handles(), ClientTelemetry::for_raw_handles());
        here.remember_exclusive_queue(&"jobs".into());
        assert_eq!(span_name(&elsewhere.publish_operation("", "jobs", false)), r#""publish jobs""#);
    }

    proptest! {
        #[test]
        fn where_messages_go_is_named_by_exchange_and_routing_key(route in route(), exclusive in any::<bool>()) {
            let Route { exchange, routing_key, .. } = &route;
            let telemetry = client_telemetry();
            // A declared queue has a name.
            let exclusive = exclusive && !routing_key.as_str().is_empty();
            if exclusive {
                telemetry.remember_exclusive_queue(routing_key);
            }
            let named = match parts(&[exchange, routing_key]) {
                nothing if nothing.is_empty() => "amq.default".to_owned(),
                named => named,
            };
            // The default exchange routes to the queue of that name.
            let is_temporary = is_uuid(&named) || exchange.as_str().is_empty() && is_temporary(routing_key.as_str(), exclusive);
            for operation in [
                telemetry.publish_operation(exchange.as_str(), routing_key.as_str(), false),
                telemetry.create_operation(exchange.as_str(), routing_key.as_str(), false),
            ] {
                prop_assert_eq!(operation.destination(), Some(&*named));
                let name = operation.name();
                let expected = if is_temporary { name.to_owned() } else { format!("{name} {named}") };
                prop_assert_eq!(span_name(&operation), format!("{expected:?}"));
            }
        }

        #[test]
        fn where_messages_come_from_is_named_by_exchange_routing_key_and_queue(
            route in route(),
            exclusive in any::<bool>(),
        ) {
            let Route { exchange, routing_key, queue } = &route;
            let telemetry = client_telemetry();
            let exclusive = exclusive && !queue.as_str().is_empty();
            if exclusive {
                telemetry.remember_exclusive_queue(queue);
            }
            let named = if routing_key == queue { parts(&[exchange, queue]) } else { parts(&[exchange, routing_key, queue]) };
            prop_assert_eq!(route.name(), named.clone());
            let is_temporary = is_uuid(&named) || is_temporary(queue.as_str(), exclusive);
            for operation in [GET, CONSUME, PROCESS, PROCESS_GOT, ACK, NACK, REJECT] {
                let operation = telemetry.operation_at(operation, &route);
                prop_assert_eq!(operation.destination(), Some(&*named).filter(|named| !named.is_empty()));
                let name = operation.name();
                let shown = !is_temporary && !named.is_empty();
                let expected = if shown { format!("{name} {named}") } else { name.to_owned() };
                prop_assert_eq!(span_name(&operation), format!("{expected:?}"));
            }
        }

        #[test]
        fn several_routes_are_named_by_their_common_parts(parts in prop::collection::vec(name(), 0..5)) {
            let parts: Vec<_> = parts.iter().map(ShortString::as_str).collect();
            let called = common_name(&parts);
            match parts[..] {
                [exchange, routing_key, queue] => {
                    let route = Route {
                        exchange: exchange.into(),
                        routing_key: routing_key.into(),
                        queue: queue.into(),
                    };
                    prop_assert_eq!(called, route.name());
                }
                _ => prop_assert_eq!(called, ""),
            }
        }
    }
}
