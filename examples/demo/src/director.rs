//! Starts everything, sends the orders, waits for their spans, shows and judges them, stops everything.

use std::{
    env, fs, io,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use brokers::{Kafka, Missing, Nats, RabbitMq};
use futures::future::{self, join_all, select_all, try_join_all};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use crate::{
    Error,
    expectation::{self, Ordered, Spans, by_service, complete, hops, is_batch},
    metrics,
    order::Card,
    receiver::{Receiver, Span},
    service::Said,
    spawn::Service,
    telemetry::{self, DIRECTOR},
    waterfall::{self, Paint, cut},
};

/// The services that wait for orders; the shopper comes last.
const SERVICES: [&str; 6] = ["orders", "payment", "shipping", "inventory", "notification", "analytics"];

/// The service that ends an order.
const LAST: &str = "notification";
/// The service that begins it.
const SHOPPER: &str = "shopper";

/// How long the spans may take to arrive after the last order was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a service sends its spans, unless the user says otherwise: the default of five seconds would be most of a run.
const SCHEDULE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "100");

/// The demo, from the first broker to the verdict.
pub(crate) async fn run() -> ExitCode {
    let ends = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return std::future::pending().await;
        };
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    tokio::select! {
        verdict = demo() => match verdict {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        () = ends => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
    }
}

async fn demo() -> Result<bool, Error> {
    let clock = Clock(Instant::now());
    let paint = Paint { colours: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() };
    let logs = log_folder()?;

    let receiver = Receiver::start().await?;
    clock.say(&format!("receiving spans and metrics at {}", receiver.endpoint));
    clock.say("starting Kafka, RabbitMQ and NATS");
    let (kafka, rabbitmq, nats) = tokio::join!(
        Broker::start("Kafka", clock, Kafka::start, |it| (it.bootstrap_servers.clone(), it.source().to_string())),
        Broker::start("RabbitMQ", clock, RabbitMq::start, |it| (it.uri.clone(), it.source().to_string())),
        Broker::start("NATS", clock, Nats::start, |it| (it.url.clone(), it.source().to_string())),
    );
    let missing: Vec<_> = [&kafka, &rabbitmq, &nats].into_iter().filter_map(|it| it.as_ref().err()).collect();
    if !missing.is_empty() {
        return Err(missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into());
    }
    let (kafka, rabbitmq, nats) = (kafka?, rabbitmq?, nats?);

    let mut environment = vec![
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.address.clone()),
        ("RABBITMQ_URI", rabbitmq.address.clone()),
        ("NATS_URL", nats.address.clone()),
        (DIRECTOR, receiver.endpoint.clone()),
    ];
    if env::var_os(SCHEDULE.0).is_none() {
        environment.push((SCHEDULE.0, SCHEDULE.1.to_owned()));
    }
    clock.say(&format!("starting the services {}", SERVICES.join(", ")));
    let mut services = Vec::new();
    for name in SERVICES {
        services.push(Service::start(name, &environment, &logs)?);
    }
    let addresses = try_join_all(services.iter_mut().map(Service::ready)).await?;
    let orders_url = addresses.into_iter().flatten().next().ok_or("orders does not say where it listens")?;
    environment.push(("ORDERS_URL", orders_url.clone()));
    clock.say(&format!("all are ready; sending orders to {orders_url}"));

    let mut shopper = Service::start(SHOPPER, &environment, &logs)?;
    shopper.ready().await?;
    let (orders, shopper_spans) = shop(&mut shopper).await?;
    services.push(shopper);
    clock.say(&format!("{} orders sent; waiting for their spans", orders.len()));

    // A batch is the root of a trace of its own: whether it is sampled is not the orders' decision.
    let links_too = everything_is_sampled();
    let mut problems = Vec::new();
    let arrived = timeout(PATIENCE, receiver.until(|spans| complete(spans, &orders, links_too)));
    {
        let (mut last, others): (Vec<_>, Vec<_>) =
            services.iter_mut().filter(|it| it.name != SHOPPER).partition(|it| it.name == LAST);
        let recorded = try_join_all(last.iter_mut().map(|it| timeout(PATIENCE, it.recorded(orders.len()))));
        let gone = select_all(others.into_iter().map(|it| Box::pin(it.gone())));
        tokio::select! {
            (arrived, recorded) = future::join(arrived, recorded) => {
                if let Ok(recorded) = recorded {
                    recorded.into_iter().collect::<Result<(), Error>>()?;
                } else {
                    problems.push(format!("not all customers were told within {PATIENCE:?}"));
                }
                if arrived.is_err() {
                    problems.push(format!("not all spans arrived within {PATIENCE:?}"));
                }
            }
            (error, ..) = gone => return Err(error),
        }
    }
    clock.say("stopping the services");
    let stopped = join_all(services.into_iter().map(|service| async {
        let name = service.name;
        let spans = if name == SHOPPER { Ok(shopper_spans) } else { service.stop().await };
        (name, spans)
    }))
    .await;
    clock.say("stopping the brokers");
    for broker in [kafka, rabbitmq, nats] {
        broker.stop();
    }
    println!();

    let received = receiver.spans();
    let spans = Spans::new(&received);
    for card in Card::ALL {
        match typical(&spans, &orders, card) {
            Some(order) => {
                println!("{}", waterfall::draw(&spans, order, paint));
                print_log(&logs, order, paint);
            }
            None => println!("no {card} order was sampled\n"),
        }
    }
    print_orders(&spans, &orders, links_too, paint);
    problems.extend(expectation::problems(&spans, &orders, links_too));
    if links_too {
        let unsampled = orders.iter().filter(|order| !order.sampled);
        problems.extend(unsampled.map(|order| format!("order {} is not sampled, though all should be", order.id)));
    }
    problems.extend(print_services(&stopped, &received, paint));
    let series = metrics::decode(&receiver.metrics());
    println!("{}", metrics::table(&series, paint));
    problems.extend(metrics::problems(&series, &spans, &orders, links_too));
    problems.extend(receiver.unknown());
    println!("logs: {}", logs.display());
    for problem in &problems {
        println!("{}", paint.error(&format!("✗ {problem}")));
    }
    let sampled = orders.iter().filter(|order| order.sampled).count();
    clock.say(&match (problems.len(), sampled) {
        (0, 0) => "no order was sampled, and no span of one arrived; the metrics count them all".to_owned(),
        (0, _) => "every hop is there, no span is an orphan, all have ended, and the metrics count the same".to_owned(),
        (count, _) => format!("{count} problems"),
    });
    Ok(problems.is_empty())
}

/// Lets the shopper order until it is done.
async fn shop(shopper: &mut Service) -> Result<(Vec<Ordered>, telemetry::Spans), Error> {
    let mut orders = Vec::new();
    loop {
        match shopper.said().await? {
            Some(Said::Ordered { id, card, trace, sampled }) => orders.push(Ordered { id, card, trace, sampled }),
            Some(Said::Spans(spans)) => return Ok((orders, spans)),
            Some(_) => {}
            None => return Err(shopper.gone().await),
        }
    }
}

/// Whether the standard variables leave the sampler at "everything".
fn everything_is_sampled() -> bool {
    match env::var("OTEL_TRACES_SAMPLER") {
        Ok(sampler) => ["always_on", "parentbased_always_on"].contains(&sampler.as_str()),
        Err(_) => true,
    }
}

/// The sampled order of this kind whose trace is of middle length: the first one pays for connections and caches.
fn typical<'a>(spans: &Spans<'_>, orders: &'a [Ordered], card: Card) -> Option<&'a Ordered> {
    let length = |order: &Ordered| {
        let trace = spans.of(order.trace);
        let end = trace.iter().map(|span| span.end).max();
        end.zip(trace.first()).map(|(end, first)| end.saturating_sub(first.start))
    };
    let mut of_kind: Vec<_> = orders.iter().filter(|order| order.card == card && order.sampled).collect();
    of_kind.sort_by_key(|order| length(order));
    of_kind.get(of_kind.len().saturating_sub(1) / 2).copied()
}

/// The log lines of an order, by the trace id in them.
fn print_log(logs: &Path, order: &Ordered, paint: Paint) {
    for service in [SHOPPER].into_iter().chain(SERVICES) {
        let log = logs.join(service).with_extension("log");
        for line in Service::log_lines(&log, &order.trace.to_string()).iter().take(3) {
            // Time of day, level, trace id, message.
            let line = line.split_once('T').map_or(line.as_str(), |(_, line)| line);
            println!("{}", paint.dim(&cut(&format!("{service:12} {line}"), 120)));
        }
    }
    println!();
}

fn print_orders(spans: &Spans<'_>, orders: &[Ordered], links_too: bool, paint: Paint) {
    let head = format!(
        "{:10} {:>7} {:>8} {:>7} {:>12} {:>14} {:>11}",
        "kind", "orders", "sampled", "traces", "spans/order", "hops expected", "hops found"
    );
    println!("{}", paint.bold(&head));
    for card in Card::ALL {
        let of_kind: Vec<_> = orders.iter().filter(|order| order.card == card).collect();
        let sampled: Vec<_> = of_kind.iter().filter(|order| order.sampled).collect();
        let traces = sampled.iter().filter(|order| !spans.of(order.trace).is_empty()).count();
        let sizes: Vec<_> = sampled.iter().map(|order| spans.of(order.trace).len()).collect();
        let size = match (sizes.iter().min(), sizes.iter().max()) {
            (Some(min), Some(max)) if min == max => min.to_string(),
            (Some(min), Some(max)) => format!("{min}-{max}"),
            _ => "-".to_owned(),
        };
        let found: Vec<_> = sampled.iter().map(|order| spans.find(order.trace, hops(order.card), links_too)).collect();
        let expected: usize = found.iter().map(|found| found.hops.len() + found.missing.len()).sum();
        let found: usize = found.iter().map(|found| found.hops.len()).sum();
        println!(
            "{:10} {:>7} {:>8} {traces:>7} {size:>12} {expected:>14} {found:>11}",
            card.name(),
            of_kind.len(),
            sampled.len(),
        );
    }
    let batches: Vec<_> = spans.all.iter().filter(|span| is_batch(span)).collect();
    let links: usize = batches.iter().map(|batch| batch.links.len()).sum();
    println!("{} batches in traces of their own link {links} orders\n", batches.len());
}

/// What each service began, ended and delivered; a difference is a problem.
fn print_services(stopped: &[(&str, Result<telemetry::Spans, Error>)], received: &[Span], paint: Paint) -> Vec<String> {
    let arrived = by_service(received);
    let mut problems = Vec::new();
    println!("{}", paint.bold(&format!("{:14} {:>9} {:>9} {:>9}", "service", "started", "ended", "arrived")));
    for (service, counted) in stopped {
        let arrived = arrived.get(service).copied().unwrap_or_default();
        match counted {
            Ok(telemetry::Spans { started, ended }) => {
                println!("{service:14} {started:>9} {ended:>9} {arrived:>9}");
                if started != ended {
                    problems.push(format!("{service}: {} spans never ended", started - ended));
                }
                if *ended != arrived {
                    problems.push(format!("{service}: {ended} spans ended, {arrived} arrived"));
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    println!();
    problems
}

/// Steps, with the time since the start.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn say(self, what: &str) {
        println!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// A folder for this run's logs: beside the build where this is one of cargo's, else where temporary files go.
fn log_folder() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let folder = target.map_or_else(env::temp_dir, Path::to_path_buf).join("demo").join(process::id().to_string());
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A broker, started, held and stopped by one thread: that leaves the brokers free to tie their processes to it, and
/// three of them start at the same time.
struct Broker {
    address: String,
    release: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Broker {
    async fn start<B: 'static>(
        name: &'static str,
        clock: Clock,
        start: fn() -> Result<B, Missing>,
        describe: fn(&B) -> (String, String),
    ) -> Result<Self, Error> {
        let (started, starting) = oneshot::channel();
        let (release, released) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || match start() {
            Ok(broker) => {
                let _ = started.send(Ok(describe(&broker)));
                // Either a word or the end of whoever could say it.
                let _ = released.recv();
            }
            Err(missing) => {
                let _ = started.send(Err(missing));
            }
        })?;
        let (address, source) = starting.await??;
        clock.say(&format!("{name} answers at {address}: {source}"));
        Ok(Self { address, release, thread })
    }

    fn stop(self) {
        drop(self.release);
        if self.thread.join().is_err() {
            eprintln!("a broker was not stopped cleanly");
        }
    }
}
