//! The cache of the operations of one client.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use opentelemetry::InstrumentationScope;

use crate::{
    catch_panic::catch_panic,
    description::{
        destination::{Destination, is_uuid},
        operation_name::OperationName,
    },
    recording::{instrumentation::Instrumentation, pipeline::Pipeline, prepared_operation::PreparedOperation},
};

/// The maximum number of operations that one client caches. The destination limit bounds names, but not consumer groups and other
/// parts of the key.
const KEPT: usize = 10_000;

/// The operations of one client, by operation name and key.
#[derive(Default)]
pub(crate) struct Operations {
    // The first operation of each type, found without a lock. Most clients have no other.
    first: [OnceLock<Arc<PreparedOperation>>; 5],
    // The hash of name and key, then a scan of the few operations that share the hash. A map with several borrowed strings as its
    // key would need an owned key for each look-up.
    cached: RwLock<HashMap<u64, Vec<Arc<PreparedOperation>>, BuildHasherDefault<Hashed>>>,
}

/// The hasher for keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// FNV-1a of the key. Names are short. The number of cached names is bounded, so a bucket cannot be flooded.
fn hash(name: OperationName, key: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ name.name.len() as u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in key {
        part.bytes().for_each(&mut add);
        add(0xff);
    }
    hash
}

impl Operations {
    #[inline]
    pub(crate) fn get(
        &self,
        pipeline: &Arc<Pipeline>,
        system: &'static str,
        name: OperationName,
        key: &[&str],
        describe: impl FnOnce() -> Destination,
    ) -> Arc<PreparedOperation> {
        let first = self.first.get(name.kind as usize);
        if let Some(first) = first.and_then(OnceLock::get).filter(|first| first.description.is(name, key)) {
            return first.clone();
        }
        let settings = pipeline.settings();
        let hash = hash(name, key);
        {
            let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = cached.get(&hash).and_then(|same| same.iter().find(|it| it.description.is(name, key)))
            {
                return found.clone();
            }
        }
        let mut destination = describe();
        if destination.name.as_deref().is_some_and(is_uuid) {
            destination.anonymous = true;
        }
        if let (Some(template_of), Some(name), None) = (&settings.template, &destination.name, &destination.template) {
            destination.template = catch_panic(|| template_of(name)).flatten().map(Arc::from);
        }
        destination.temporary |= destination.reply_address && destination.template.is_none();
        let admitted = settings.destination_limit.admits(&destination);
        let operation = Arc::new(PreparedOperation::new(pipeline.clone(), system, name, key, destination, admitted));
        if admitted.is_cached {
            let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
            if cached.len() >= KEPT {
                return operation;
            }
            let same = cached.entry(hash).or_default();
            if !same.iter().any(|it| it.description.is(name, key)) {
                same.push(operation.clone());
            }
            let _ = first.map(|first| first.set(operation.clone()));
        }
        operation
    }
}

/// An instrumentation in use, with its operations.
pub(crate) struct Used {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) operations: Operations,
    /// The instrumentation that replaces this one. Calls on other threads may still use this one.
    pub(crate) newer: OnceLock<Box<Self>>,
}

impl Used {
    pub(crate) fn new(scope: &InstrumentationScope, instrumentation: Instrumentation) -> Self {
        let pipeline = Arc::new(Pipeline::new(scope.clone(), instrumentation));
        Self { pipeline, operations: Operations::default(), newer: OnceLock::new() }
    }

    /// This one, or the last of those that replace it.
    #[inline]
    pub(crate) fn newest(&self) -> &Self {
        match self.newer.get() {
            None => self,
            Some(newer) => newer.newest(),
        }
    }
}
