//! Nothing that was started outlives the process that started it, however that process ends.

mod node;

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use node::Node;

/// `brokers run` with a command that waits until its standard input ends, which is held here.
struct Holder {
    child: Child,
    /// The three brokers.
    nodes: [Node; 3],
    /// Where the brokers' folders are.
    temporary: PathBuf,
    /// In the environment of every process that descends from the holder.
    mark: String,
}

impl Holder {
    fn start() -> Self {
        let mark = format!("BROKERS_TEST_MARK={:x}", RandomState::new().hash_one(0));
        let (name, value) = mark.split_once('=').unwrap();
        let temporary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(value);
        fs::create_dir(&temporary).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_brokers"))
            .args(["run", "--", "/bin/sh", "-c"])
            .arg(r#"echo "$BROKERS_KAFKA $BROKERS_AMQP $BROKERS_NATS"; read -r end"#)
            .env_remove("BROKERS_KAFKA")
            .env_remove("BROKERS_AMQP")
            .env_remove("BROKERS_NATS")
            // Child processes, not containers.
            .env("DOCKER_HOST", "unix:///nonexistent")
            .env("TMPDIR", &temporary)
            .env(name, value)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses: Vec<_> = line.split_whitespace().collect();
        let &[kafka, rabbitmq, nats] = &addresses[..] else { panic!("{line}") };
        let nodes = [Node::kafka(kafka), Node::rabbitmq(rabbitmq), Node::nats(nats)];
        let holder = Self { child, nodes, temporary, mark };
        let folders = fs::read_dir(&holder.temporary).unwrap();
        let folders: HashSet<_> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
        let names: HashSet<_> = holder.nodes.iter().map(|node| node.name.clone()).collect();
        assert_eq!(names, folders);
        // The holder, its command, three brokers and their keepers.
        assert!(holder.processes().len() >= 8, "{:#?}", holder.processes());
        holder
    }

    /// The processes that descend from the holder and still run.
    fn processes(&self) -> Vec<String> {
        let list = Command::new("ps").args(["axeww", "-o", "pid=,args="]).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout);
        list.lines().filter(|line| line.contains(&self.mark)).map(str::to_owned).collect()
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        assert!(
            Command::new("/bin/sh").args(["-c", &format!("kill -s {name} -- {group}")]).status().unwrap().success()
        );
    }

    /// Every process, every broker and every folder is gone within the deadline.
    fn assert_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "left: {:#?}", self.processes());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(self.nodes.iter().all(|node| !node.answers()), "{:#?}", self.nodes);
        fs::remove_dir(&self.temporary).expect("an empty folder");
    }
}

#[test]
fn all_is_gone_when_the_holder_ends() {
    let mut holder = Holder::start();
    drop(holder.child.stdin.take());
    // `read` at the end of its input.
    assert_eq!(holder.child.wait().unwrap().code(), Some(1));
    assert!(holder.processes().is_empty(), "nothing is left to be waited for: {:#?}", holder.processes());
    holder.assert_gone();
}

#[test]
fn all_is_gone_after_ctrl_c() {
    let mut holder = Holder::start();
    holder.signal("INT");
    holder.child.wait().unwrap();
    holder.assert_gone();
}

#[test]
fn all_is_gone_after_kill_9_of_the_holder() {
    let mut holder = Holder::start();
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    holder.assert_gone();
}

#[test]
fn two_sets_side_by_side_do_not_meet() {
    let (mut one, mut two) = thread::scope(|scope| {
        let (one, two) = (scope.spawn(Holder::start), scope.spawn(Holder::start));
        (one.join().unwrap(), two.join().unwrap())
    });
    let addresses: HashSet<_> = one.nodes.iter().chain(&two.nodes).map(|node| &node.address).collect();
    assert_eq!(addresses.len(), 6);

    drop(one.child.stdin.take());
    one.child.wait().unwrap();
    one.assert_gone();
    assert!(two.nodes.iter().all(Node::answers), "{:#?}", two.nodes);

    drop(two.child.stdin.take());
    two.child.wait().unwrap();
    two.assert_gone();
}
