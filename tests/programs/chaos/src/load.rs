//! A service at work: it sends steadily, awaits the answers beside each other, and receives.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{context::FutureExt as _, trace::TraceContextExt};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    clients::Client,
    ledger::{Call, Returned},
    plan,
    spans::Sdk,
};

/// A call that takes longer is counted as one that never returns. The clients' own limits are seconds.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// From one send to the next.
const PACE: Duration = Duration::from_millis(4);
/// How many sends may await their answers.
const IN_FLIGHT: u32 = 256;

/// How many messages were received and settled, and the state of the receiving loop.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received(Arc<(AtomicU64, Mutex<Option<Receiving>>)>);

/// The call of the receiving loop, and the error of the call before it.
#[derive(Debug)]
struct Receiving {
    began: Instant,
    last_error: Option<String>,
}

impl Received {
    pub(crate) fn count(&self) -> u64 {
        self.0.0.load(Relaxed)
    }

    /// The state of the receiving loop, as a clause.
    pub(crate) fn state(&self) -> String {
        match &*self.receiving() {
            None => "no receive has begun".to_owned(),
            Some(Receiving { began, last_error }) => {
                let error = last_error.as_deref().unwrap_or("no error");
                format!("a receive has taken {:.0?}, the one before returned: {error}", began.elapsed())
            }
        }
    }

    fn begins(&self, last_error: Option<String>) {
        *self.receiving() = Some(Receiving { began: Instant::now(), last_error });
    }

    fn receiving(&self) -> MutexGuard<'_, Option<Receiving>> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works until `meanwhile` is done, then until every send has returned; calls `on_call` for each, and returns their number. The
/// client is dropped at the end.
pub(crate) async fn run<T>(
    client: Box<dyn Client>,
    sdk: Sdk,
    seed: u64,
    received: &Received,
    on_call: impl Fn(Call) + Send + Sync + 'static,
    meanwhile: impl Future<Output = T>,
) -> Result<(T, u64), String> {
    let client: Arc<dyn Client> = client.into();
    let (stop, stopped) = watch::channel(());
    let sending = tokio::spawn(send(client.clone(), sdk, seed, Arc::new(on_call), stopped.clone()));
    let receiving = tokio::spawn(receive(client.clone(), received.clone(), stopped));
    let done = meanwhile.await;
    drop(stop);
    let sent = sending.await.map_err(|panic| format!("sending ended with a panic: {panic}"))?;
    receiving.await.map_err(|panic| format!("receiving ended with a panic: {panic}"))?;
    // librdkafka's clients wait for their threads.
    let dropped = timeout(BOUND, spawn_blocking(|| drop(client))).await;
    dropped
        .map_err(|_| format!("the drop of the client did not return in {BOUND:?}"))?
        .map_err(|panic| panic.to_string())?;
    Ok((done, sent))
}

async fn send(
    client: Arc<dyn Client>,
    sdk: Sdk,
    seed: u64,
    on_call: Arc<impl Fn(Call) + Send + Sync + 'static>,
    mut stopped: watch::Receiver<()>,
) -> u64 {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        let prepared = async {
            pace.tick().await;
            client.ready().await;
            in_flight.clone().acquire_owned().await
        };
        let permit = tokio::select! {
            Ok(permit) = prepared => permit,
            _ = stopped.changed() => break,
        };
        let order = sdk.app_span();
        let around = order.span().span_context().span_id();
        let payload = plan::payload(seed, number).into();
        let sending = async { client.send(payload).await }.with_context(order.clone());
        let call = move |returned| Call { number, returned, around };
        match timeout(BOUND, sending).await {
            Ok(Ok(answer)) => {
                let on_call = on_call.clone();
                tokio::spawn(async move {
                    let returned = match timeout(BOUND, answer.with_context(order)).await {
                        Ok(Ok(())) => Returned::Acknowledged,
                        Ok(Err(error)) => Returned::Failed(error),
                        Err(_) => Returned::Never,
                    };
                    on_call(call(returned));
                    drop(permit);
                });
            }
            Ok(Err(error)) => on_call(call(Returned::Failed(error))),
            Err(_) => on_call(call(Returned::Never)),
        }
        number += 1;
    }
    // All of them have returned.
    let _ = in_flight.acquire_many(IN_FLIGHT).await;
    number
}

async fn receive(client: Arc<dyn Client>, received: Received, mut stopped: watch::Receiver<()>) {
    let mut last_error = None;
    loop {
        received.begins(last_error.take());
        let settled = tokio::select! {
            settled = client.receive() => settled,
            _ = stopped.changed() => break,
        };
        match settled {
            Ok(()) => _ = received.0.0.fetch_add(1, Relaxed),
            Err(error) => {
                last_error = Some(error);
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
