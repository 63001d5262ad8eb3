//! What all services have in common: they start, say that they are ready, stop when told to, and leave no span behind.
//!
//! They speak to the director in lines on standard output ([`Said`]); their log goes to standard error.

use std::{
    env, fs,
    future::Future,
    io::{self, Read},
    process,
    str::FromStr,
    sync::Once,
    thread,
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, Shared},
};
use opentelemetry::TraceId;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{error, info};

use crate::{
    Error,
    order::Card,
    telemetry::{Spans, Telemetry},
};

/// Set by the director: the service then stops when its standard input ends, so that it never outlives the director.
pub(crate) const STOP_AT_END_OF_INPUT: &str = "DEMO_STOP_AT_END_OF_INPUT";

/// A file that is made when the service is ready; a container's health check looks for it.
const READY_FILE: &str = "DEMO_READY_FILE";

/// How long a service may take to stop once it was told to, telemetry included.
const GRACE: Duration = Duration::from_secs(10);

/// Done when the service is to stop. Any part of it may wait for a clone.
pub(crate) type Stop = Shared<BoxFuture<'static, ()>>;

/// Runs a service from its first span to its last.
pub(crate) async fn run<F>(name: &'static str, work: impl FnOnce(Stop) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let telemetry = Telemetry::start(name)?;
    let result = work(stop()?).await;
    if let Err(error) = &result {
        error!(%error, "{name} failed");
    }
    // All clients are dropped by now, so that every span has ended.
    let spans = telemetry.shutdown();
    say(&Said::Spans(spans));
    result
}

/// The next item, or none when the service is to stop: the message in hand is finished, the next one stays in the broker.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S, stop: &Stop) -> Option<S::Item> {
    tokio::select! {
        biased;
        () = stop.clone() => None,
        item = stream.next() => item,
    }
}

/// Says, once, that the service works from now on.
pub(crate) fn ready(address: Option<&str>) {
    static READY: Once = Once::new();
    READY.call_once(|| {
        info!("ready");
        if let Some(file) = env::var_os(READY_FILE)
            && let Err(error) = fs::write(&file, "")
        {
            error!(%error, "cannot write {}", file.display());
        }
        say(&Said::Ready(address.map(str::to_owned)));
    });
}

/// Where another part of the system is.
pub(crate) fn address(variable: &str) -> Result<String, Error> {
    env::var(variable).map_err(|_| format!("{variable} must say where to connect to").into())
}

fn stop() -> io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let end_of_input = end_of_input();
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end_of_input => {}
        }
        info!("stopping");
        // A broker that is gone must not keep the service.
        thread::spawn(|| {
            thread::sleep(GRACE);
            eprintln!("not stopped after {GRACE:?}");
            process::exit(1);
        });
    };
    Ok(stop.boxed().shared())
}

/// Done at the end of standard input, where the director holds the other end of it.
async fn end_of_input() {
    let (send, receive) = oneshot::channel();
    if env::var_os(STOP_AT_END_OF_INPUT).is_some() {
        // A thread, because the runtime would wait for a read of its own before it shuts down.
        thread::spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            let _ = send.send(());
        });
    } else {
        // Never done.
        std::mem::forget(send);
    }
    let _ = receive.await;
}

/// What a service tells the director: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// It works; and where, if others connect to it.
    Ready(Option<String>),
    /// An order was sent.
    Ordered {
        /// Its number.
        id: u32,
        /// Its kind.
        card: Card,
        /// The trace it began.
        trace: TraceId,
        /// Whether the trace is recorded.
        sampled: bool,
    },
    /// A customer was told what became of an order: its end.
    Notified {
        /// Its number.
        id: u32,
    },
    /// The service has shut its telemetry down.
    Spans(Spans),
}

/// Tells the director.
pub(crate) fn say(said: &Said) {
    match said {
        Said::Ready(address) => println!("ready {}", address.as_deref().unwrap_or("-")),
        Said::Ordered { id, card, trace, sampled } => println!("ordered {id} {card} {trace} {sampled}"),
        Said::Notified { id } => println!("notified {id}"),
        Said::Spans(Spans { started, ended }) => println!("spans {started} {ended}"),
    }
}

impl FromStr for Said {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Error> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["ready", "-"] => Ok(Self::Ready(None)),
            ["ready", address] => Ok(Self::Ready(Some(address.to_owned()))),
            ["ordered", id, card, trace, sampled] => Ok(Self::Ordered {
                id: id.parse()?,
                card: *Card::ALL.iter().find(|known| known.name() == card).ok_or("no such kind of order")?,
                trace: TraceId::from_hex(trace)?,
                sampled: sampled.parse()?,
            }),
            ["notified", id] => Ok(Self::Notified { id: id.parse()? }),
            ["spans", started, ended] => Ok(Self::Spans(Spans { started: started.parse()?, ended: ended.parse()? })),
            _ => Err(format!("a line nobody expected: {line}").into()),
        }
    }
}
