//! What cannot be had is one sentence with what mends it, never silence.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

/// An empty folder instead of all programs.
fn nothing(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn brokers(test: &str, args: &[&str], envs: &[(&str, &str)]) -> Output {
    let nothing = nothing(test);
    Command::new(env!("CARGO_BIN_EXE_brokers"))
        .args(args)
        .env_clear()
        .env("PATH", &nothing)
        .env("BROKERS_HOME", &nothing)
        .envs(envs.iter().copied())
        .output()
        .unwrap()
}

const KAFKA: &str = "Apache Kafka cannot be started, Java 17 or newer is not installed: \
                     run `make brokers` (as root on Debian; elsewhere install a Java runtime first)";
const RABBITMQ: &str = "RabbitMQ cannot be started, rabbitmq-server is not installed: \
                        run `make brokers` (as root on Debian; elsewhere install rabbitmq-server first)";
const NATS: &str = "NATS cannot be started, nats-server 2.11 or newer is not installed: \
                    run `make brokers` (needs Go 1.26 or newer)";
const REDIS: &str = "Redis cannot be started, redis-server is not installed: \
                     run `make brokers` (as root on Debian; elsewhere install redis-server first)";

#[test]
fn check_says_what_mends_each_and_fails() {
    let output = brokers("check", &["check"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("kafka      {KAFKA}\nrabbitmq   {RABBITMQ}\nnats       {NATS}\nredis      {REDIS}\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn missing_ones_are_listed_for_scripts() {
    let output = brokers("list", &["check", "--missing"], &[("BROKERS_NATS", "nats://127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "kafka\nrabbitmq\nredis\n");
}

#[test]
fn a_command_runs_without_them_and_says_so() {
    let script = r#"echo "${BROKERS_KAFKA-unset} ${BROKERS_AMQP-unset} ${BROKERS_NATS-unset}"; exit 7"#;
    let output = brokers("run", &["run", "--", "/bin/sh", "-c", script], &[]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "unset unset unset\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{KAFKA}\n{RABBITMQ}\n{NATS}\n"));
}

#[test]
fn an_address_in_the_environment_where_nobody_answers_is_said() {
    // Nothing listens on port 1.
    let envs =
        [("BROKERS_KAFKA", "127.0.0.1:1"), ("BROKERS_AMQP", "amqp://127.0.0.1:1"), ("BROKERS_NATS", "127.0.0.1:1")];
    let output = brokers("silent", &["run", "--", "/bin/sh", "-c", "exit 0"], &envs);
    let expected = "\
        BROKERS_KAFKA is set, but no Apache Kafka answers at 127.0.0.1:1: start it there, or unset BROKERS_KAFKA\n\
        BROKERS_AMQP is set, but no RabbitMQ answers at amqp://127.0.0.1:1: start it there, or unset BROKERS_AMQP\n\
        BROKERS_NATS is set, but no NATS answers at 127.0.0.1:1: start it there, or unset BROKERS_NATS\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}
