//! The calls to `docker compose`, answered by a script in place of the program: its "container" is a nats-server, and it has no
//! image of the other brokers. No engine takes part in this.

mod node;

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use node::Node;

const DOCKER: &str = r#"#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
"info "* | "compose version") echo 29 ;;
"compose "*" run "*" nats")
    while [ "$1" != run ]; do shift; done
    while [ "$1" != -p ]; do shift; done
    port=${2%:*}
    "$NATS_SERVER" -js -sd "$STORE" --name "$NAME" -a 127.0.0.1 -p "${port#*:}" </dev/null >/dev/null 2>&1 &
    echo $! >"$LOG.pid"
    echo container
    ;;
"compose "*" run "*) echo "no such image" >&2; exit 1 ;;
"rm "*) read -r pid <"$LOG.pid"; kill -KILL "$pid" ;;
esac
"#;

fn nats_server() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/brokers");
    let home = env::var_os("BROKERS_HOME").map_or(installed, PathBuf::from).join("bin");
    let path = env::var_os("PATH").unwrap();
    let mut folders = std::iter::once(home).chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join("nats-server")).filter(|path| path.is_file())).expect("`make brokers`")
}

#[test]
fn a_container_is_run_on_a_free_port_and_removed_with_its_volumes() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compose");
    let _ = fs::remove_dir_all(&folder);
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let (docker, log) = (folder.join("docker"), folder.join("log"));
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();

    let mut run = Command::new(env!("CARGO_BIN_EXE_brokers"))
        .args(["run", "--", "/bin/sh", "-c"])
        .arg(r#"echo "${BROKERS_KAFKA-unset} ${BROKERS_AMQP-unset} $BROKERS_NATS"; read -r end"#)
        .env_clear()
        .env("PATH", &folder)
        .env("BROKERS_HOME", &folder)
        .env("TMPDIR", &temporary)
        .env("LOG", &log)
        .env("STORE", folder.join("store"))
        .env("NATS_SERVER", nats_server())
        .env("NAME", format!("brokers-{:016x}", RandomState::new().hash_one(0)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut addresses = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut addresses).unwrap();
    let node = addresses.trim().strip_prefix("unset unset ").map(Node::nats);
    // The command is over when its input ends.
    let stderr = String::from_utf8(run.wait_with_output().unwrap().stderr).unwrap();
    let node = node.unwrap_or_else(|| panic!("{addresses}{stderr}"));
    let (_, port) = node.address.split_once(':').unwrap();
    for broker in ["Apache Kafka", "RabbitMQ"] {
        let said = format!("{broker} as a container: docker compose failed, so it is tried without: no such image\n");
        assert!(stderr.contains(&said), "{stderr}");
    }

    let log = fs::read_to_string(log).unwrap();
    let calls: Vec<_> = log.lines().filter(|call| call.contains(" run ")).collect();
    assert_eq!(calls.len(), 3, "{log}");
    let nats = calls.iter().find(|call| call.ends_with(" nats")).unwrap();
    assert!(nats.ends_with(&format!(" run -d --no-deps -p 127.0.0.1:{port}:4222 nats")), "{nats}");
    let (compose, _) = nats.split_once(" run ").unwrap();
    assert!(compose.starts_with("compose -p brokers-"), "{compose}");
    assert!(compose.ends_with("docker-compose.yml"), "{compose}");
    let kafka = calls.iter().find(|call| call.ends_with(" kafka")).unwrap();
    assert!(kafka.contains(" -e KAFKA_NUM_PARTITIONS=3 "), "{kafka}");
    assert!(kafka.contains(" -e KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:"), "{kafka}");

    // Removed by the time the command is over, and the projects of those that failed are, too.
    assert!(log.contains("\nrm -f -v container\n"), "{log}");
    assert!(log.contains(&format!("\n{compose} down -v\n")), "{log}");
    assert_eq!(log.lines().filter(|call| call.ends_with(" down -v")).count(), 3, "{log}");
    assert!(!node.answers());
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}
