//! The contexts that rdkafka calls back. [`Traced`] holds a client's telemetry.

use std::{ops::Deref, sync::Arc};

use otel_messaging::adapter::opaque_debug;

use crate::telemetry::ClientTelemetry;

/// The context of every raw client inside a wrapper: the user's context and the client's telemetry.
///
/// [`BaseProducer<C>`](crate::producer::BaseProducer) wraps a `rdkafka::producer::BaseProducer<Traced<C>>`. All state of a
/// wrapper is in its context, because rdkafka's callbacks give references to the raw client.
pub struct Traced<C> {
    user: Arc<C>,
    telemetry: ClientTelemetry,
}

impl<C> Traced<C> {
    /// Adds telemetry to a context.
    pub fn new(context: C) -> Self {
        Self { user: Arc::new(context), telemetry: ClientTelemetry::new() }
    }

    pub(crate) fn user(&self) -> &Arc<C> {
        &self.user
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        &self.telemetry
    }
}

impl<C> Deref for Traced<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.user
    }
}

opaque_debug! { [C] Traced<C>, "Traced", |traced| telemetry: traced.telemetry }

/// Implements the traits by which `ClientConfig` makes a client: with the default context, and with any.
macro_rules! from_config {
    ([$($default:tt)*] $by_default:ty, $context:expr; [$($generics:tt)*] $ours:ty => $raw:ty) => {
        const _: () = {
            use ::rdkafka::{
                ClientConfig,
                config::{FromClientConfig, FromClientConfigAndContext},
                error::KafkaResult,
            };

            impl<$($default)*> FromClientConfig for $by_default {
                fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
                    Self::from_config_and_context(config, $context)
                }
            }

            impl<$($generics)*> FromClientConfigAndContext<C> for $ours {
                fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
                    <$raw>::from_config_and_context(config, $crate::context::Traced::new(context)).map(Self::from)
                }
            }
        };
    };
}
pub(crate) use from_config;

/// Implements [`ClientContext`] by calls to a field.
macro_rules! client_context {
    ([$($bounds:tt)*] $context:ty, $field:tt $(, stats_raw: |$this:ident, $raw:ident| $also:expr)?) => {
        impl<C: ::rdkafka::ClientContext $($bounds)*> ::rdkafka::ClientContext for $context {
            const ENABLE_REFRESH_OAUTH_TOKEN: bool = C::ENABLE_REFRESH_OAUTH_TOKEN;

            fn log(&self, level: ::rdkafka::config::RDKafkaLogLevel, fac: &str, log_message: &str) {
                self.$field.log(level, fac, log_message);
            }

            fn stats(&self, statistics: ::rdkafka::Statistics) {
                self.$field.stats(statistics);
            }

            fn stats_raw(&self, statistics: &[u8]) {
                $(
                    let ($this, $raw) = (self, statistics);
                    $also;
                )?
                self.$field.stats_raw(statistics);
            }

            fn error(&self, error: ::rdkafka::error::KafkaError, reason: &str) {
                self.$field.error(error, reason);
            }

            fn generate_oauth_token(
                &self,
                oauthbearer_config: Option<&str>,
            ) -> Result<::rdkafka::client::OAuthToken, Box<dyn ::std::error::Error>> {
                self.$field.generate_oauth_token(oauthbearer_config)
            }
        }
    };
}
pub(crate) use client_context;

client_context! { [] Traced<C>, user, stats_raw: |traced, statistics| traced.telemetry.read_statistics(statistics) }
