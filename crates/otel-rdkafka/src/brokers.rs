//! The addresses of a cluster's brokers, from librdkafka's statistics.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use serde::Deserialize;

/// The addresses of brokers by their ids. Without statistics it stays empty, and costs no lock.
#[derive(Debug, Default)]
pub(crate) struct Brokers(OnceLock<RwLock<HashMap<i32, BrokerAddress>>>);

/// The host and port that a broker advertises, to which librdkafka connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerAddress {
    /// `host:port`.
    pub(crate) node: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// The part of the statistics that is read.
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    /// Negative for an entry that is not a broker of the cluster's metadata: a bootstrap server, a coordinator.
    nodeid: i32,
    nodename: String,
}

impl Brokers {
    /// Reads one report. Invalid reports are ignored.
    pub(crate) fn read_statistics(&self, statistics: &[u8]) {
        let Ok(Statistics { brokers }) = serde_json::from_slice(statistics) else { return };
        let known = brokers.into_values().filter(|broker| broker.nodeid >= 0);
        let known = known.filter_map(|broker| Some((broker.nodeid, BrokerAddress::parse(&broker.nodename)?)));
        // A broker may have another address now. One that left may still acknowledge earlier messages, so it stays.
        self.0.get_or_init(RwLock::default).write().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    /// Whether there was any report.
    #[inline]
    pub(crate) fn any_known(&self) -> bool {
        self.0.get().is_some()
    }

    pub(crate) fn find(&self, id: i32) -> Option<BrokerAddress> {
        self.0.get()?.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl BrokerAddress {
    fn parse(node: &str) -> Option<Self> {
        let (host, port) = node.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port > 0)?;
        (!host.is_empty()).then(|| Self { node: node.into(), host: host.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cluster_says_where_its_brokers_are() {
        let brokers = Brokers::default();
        brokers.read_statistics(
            br#"{"name": "shop", "brokers": {
                "127.0.0.1:1/bootstrap": {"nodeid": -1, "nodename": "127.0.0.1:1", "state": "UP"},
                "GroupCoordinator": {"nodeid": -1, "nodename": "a:2"},
                "a:2/7": {"nodeid": 7, "nodename": "a:2", "rtt": {"min": 1}},
                ":0/8": {"nodeid": 8, "nodename": ":0"},
                "::1:3/9": {"nodeid": 9, "nodename": "::1:3"}
            }, "topics": {}}"#,
        );
        for nothing in [&b""[..], b"{}", b"{\"brokers\": 1}", b"\xff"] {
            brokers.read_statistics(nothing);
        }
        assert_eq!(
            [-1, 7, 8, 9].map(|id| brokers.find(id)),
            [None, BrokerAddress::parse("a:2"), None, BrokerAddress::parse("::1:3")]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_no_report_says_nothing(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let brokers = Brokers::default();
            brokers.read_statistics(&bytes);
            prop_assert!(brokers.0.get().is_none());
        }

        #[test]
        fn any_report_says_of_a_broker_what_it_says_and_no_more(
            of in prop::collection::vec((any::<i32>(), prop_oneof![any::<String>(), "[a-z.:]{0,9}:[0-9]{0,6}"]), 0..8),
            asked in any::<i32>(),
        ) {
            let report = of.iter().enumerate().map(|(at, (nodeid, nodename))| {
                (at.to_string(), serde_json::json!({ "nodeid": nodeid, "nodename": nodename, "rtt": {} }))
            });
            let report = serde_json::json!({ "brokers": report.collect::<serde_json::Map<_, _>>(), "topics": {} });
            let brokers = Brokers::default();
            brokers.read_statistics(report.to_string().as_bytes());
            for id in of.iter().map(|(id, _)| *id).chain([asked]) {
                // Of several with the same id any one may be found.
                let said = of.iter().filter(|(of, _)| *of == id && id >= 0).filter_map(|(_, name)| {
                    let mut parts: Vec<_> = name.split(':').collect();
                    let port = parts.pop().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
                    let host = parts.join(":");
                    port.filter(|_| !host.is_empty()).map(|port: u16| (name.clone(), host, port))
                });
                let said: Vec<_> = said.collect();
                match brokers.find(id) {
                    Some(BrokerAddress { node, host, port }) => {
                        prop_assert!(said.contains(&(node.to_string(), host.to_string(), port)));
                    }
                    None => prop_assert_eq!(said, []),
                }
            }
        }

        #[test]
        fn any_host_and_any_port_are_an_address(host in ".+", port in 1..=u16::MAX) {
            let address = BrokerAddress::parse(&format!("{host}:{port}"));
            let address = address.map(|BrokerAddress { host, port, .. }| (host.to_string(), port));
            prop_assert_eq!(address, Some((host, port)));
        }
    }
}
