//! `brokers check` says where each broker would come from; `brokers run -- COMMAND` starts them once for a command.

use std::{
    env,
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
    thread,
};

use brokers::{Kafka, Missing, Nats, RabbitMq, Redis, Source};

const USAGE: &str = "\
usage: brokers check              where each broker would come from; exits 1 when a real one is missing
       brokers check --missing    the names of those that are missing, one a line
       brokers run -- COMMAND...  runs COMMAND with BROKERS_KAFKA, BROKERS_AMQP and BROKERS_NATS set; exits as it does";

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match words[..] {
        ["check"] => check(),
        ["check", "--missing"] => list_missing(),
        ["run", "--", _, ..] => run(&args[2], &args[3..]),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Where each real broker would come from.
fn found() -> [(&'static str, Result<Source, Missing>); 4] {
    [("kafka", Kafka::find()), ("rabbitmq", RabbitMq::find()), ("nats", Nats::find()), ("redis", Redis::find())]
}

fn check() -> ExitCode {
    let found = found();
    for (broker, source) in &found {
        match source {
            Ok(source) => println!("{broker:<10} {source}"),
            Err(missing) => println!("{broker:<10} {missing}"),
        }
    }
    if found.iter().all(|(_, source)| source.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list_missing() -> ExitCode {
    found().iter().filter(|(_, source)| source.is_err()).for_each(|(broker, _)| println!("{broker}"));
    ExitCode::SUCCESS
}

fn run(command: &OsString, args: &[OsString]) -> ExitCode {
    let (kafka, rabbitmq, nats) = thread::scope(|scope| {
        let kafka = scope.spawn(Kafka::start_real);
        let rabbitmq = scope.spawn(RabbitMq::start);
        let nats = scope.spawn(Nats::start);
        (started(kafka.join()), started(rabbitmq.join()), started(nats.join()))
    });
    let addresses = [
        ("BROKERS_KAFKA", kafka.as_ref().map(|kafka| &kafka.bootstrap_servers)),
        ("BROKERS_AMQP", rabbitmq.as_ref().map(|rabbitmq| &rabbitmq.uri)),
        ("BROKERS_NATS", nats.as_ref().map(|nats| &nats.url)),
    ];
    let mut command = Command::new(command);
    command.args(args);
    for (variable, address) in addresses {
        match address {
            Some(address) => command.env(variable, address),
            None => command.env_remove(variable),
        };
    }
    // What `cargo run` says about this package. A cargo in COMMAND would compile again what depends on it.
    for (name, _) in env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    match command.status() {
        // As a shell tells it.
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("{} cannot be run: {error}", command.get_program().display());
            ExitCode::from(127)
        }
    }
}

fn started<B>(result: thread::Result<Result<B, Missing>>) -> Option<B> {
    match result {
        Ok(Ok(broker)) => Some(broker),
        Ok(Err(missing)) => {
            eprintln!("{missing}");
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
