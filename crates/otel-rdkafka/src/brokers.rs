//! Where the brokers of a cluster are, as far as librdkafka's statistics have said.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Deserialize;

/// The addresses of brokers by their ids. Empty where nobody asks for statistics.
#[derive(Debug, Default)]
pub(crate) struct Brokers(RwLock<HashMap<i32, Address>>);

/// The host and port that a broker gives out for itself, which is where librdkafka connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// What is read of the statistics.
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    /// Negative for what is no broker that the cluster told of: a bootstrap server, a coordinator.
    nodeid: i32,
    nodename: String,
}

impl Brokers {
    /// Reads one report. What is no report changes nothing.
    pub(crate) fn learn(&self, statistics: &[u8]) {
        let Ok(Statistics { brokers }) = serde_json::from_slice(statistics) else { return };
        let known = brokers.into_values().filter(|broker| broker.nodeid >= 0);
        let known = known.filter_map(|broker| Some((broker.nodeid, Address::of(&broker.nodename)?)));
        // Brokers move; one that went away may still acknowledge what it was sent.
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    pub(crate) fn find(&self, id: i32) -> Option<Address> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Address {
    fn of(node: &str) -> Option<Self> {
        let (host, port) = node.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port > 0)?;
        (!host.is_empty()).then(|| Self { host: host.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_says_where_its_brokers_are() {
        let brokers = Brokers::default();
        brokers.learn(
            br#"{"name": "shop", "brokers": {
                "127.0.0.1:1/bootstrap": {"nodeid": -1, "nodename": "127.0.0.1:1", "state": "UP"},
                "GroupCoordinator": {"nodeid": -1, "nodename": "a:2"},
                "a:2/7": {"nodeid": 7, "nodename": "a:2", "rtt": {"min": 1}},
                ":0/8": {"nodeid": 8, "nodename": ":0"},
                "::1:3/9": {"nodeid": 9, "nodename": "::1:3"}
            }, "topics": {}}"#,
        );
        for nothing in [&b""[..], b"{}", b"{\"brokers\": 1}", b"\xff"] {
            brokers.learn(nothing);
        }
        let at = |host: &str, port| Some(Address { host: host.into(), port });
        assert_eq!([-1, 7, 8, 9].map(|id| brokers.find(id)), [None, at("a", 2), None, at("::1", 3)]);
    }
}
