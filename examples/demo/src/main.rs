//! One order, one trace, three queues.
//!
//! `demo` starts brokers and services, sends a fixed set of orders through them, prints their traces as waterfalls and
//! checks that not a span is missing. `demo SERVICE` is one of the services alone; `demo shopper --forever` keeps
//! ordering. `demo ask URL` looks for the same traces in a Jaeger. README.md says how to read what it prints.

mod ask;
mod director;
mod expectation;
mod metrics;
mod order;
mod receiver;
mod service;
mod services;
mod spawn;
mod telemetry;
mod waterfall;

use std::{env, process::ExitCode};

/// Whatever went wrong, to be shown.
type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: demo
       demo orders|payment|shipping|inventory|notification|analytics|shopper
       demo shopper --forever
       demo ask JAEGER-URL";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => return director::run().await,
        ["orders"] => service::run("orders", services::orders::run).await,
        ["payment"] => service::run("payment", services::payment::run).await,
        ["shipping"] => service::run("shipping", services::shipping::run).await,
        ["inventory"] => service::run("inventory", services::inventory::run).await,
        ["notification"] => service::run("notification", services::notification::run).await,
        ["analytics"] => service::run("analytics", services::analytics::run).await,
        ["shopper"] => service::run("shopper", services::shopper::run).await,
        ["shopper", "--forever"] => service::run("shopper", services::shopper::run_forever).await,
        ["ask", jaeger] => ask::run(jaeger).await,
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
