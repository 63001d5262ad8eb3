//! nats-server as a child process that does not outlive this one.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a server may take until it listens.
const READY: Duration = Duration::from_secs(30);

/// Runs the server, says its process id and waits for a word. Without one, because our end of the pipe was closed, be it by
/// us or by our death, nothing stays behind.
const KEEPER: &str = r#"
    trap "" HUP INT TERM
    "$@" >>"$0/log" 2>&1 &
    echo $!
    read -r word
    kill -s KILL $!
    wait $! 2>/dev/null
    [ "$word" = again ] || rm -rf -- "$0"
"#;

#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
    running: Running,
}

/// The server and the shell that keeps it.
#[derive(Debug)]
struct Running {
    keeper: Child,
    server: u32,
    port: u16,
}

impl Process {
    pub(crate) fn start(program: PathBuf, args: Vec<String>) -> Self {
        let folder = new_folder().expect("no place for the server's data");
        let running = launch(&program, &args, &folder);
        Self { program, args, folder, running }
    }

    pub(crate) fn port(&self) -> u16 {
        self.running.port
    }

    pub(crate) fn restart(&mut self) {
        let pipe = self.running.keeper.stdin.as_mut().expect("a keeper without a pipe");
        pipe.write_all(b"again\n").expect("the keeper has gone");
        let _ = self.running.keeper.wait();
        self.running = launch(&self.program, &self.args, &self.folder);
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("/bin/sh")
            .args(["-c", r#"kill -s "$0" "$1""#, name, &self.running.server.to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent to nats-server");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Waiting closes the pipe first.
        let _ = self.running.keeper.wait();
    }
}

fn new_folder() -> io::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("nats_server-{}-{number}", process::id()));
    // What another process with this number left behind is not ours.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("ports"))?;
    Ok(folder)
}

fn launch(program: &Path, args: &[String], folder: &Path) -> Running {
    let mut keeper = Command::new("/bin/sh")
        .args(["-c", KEEPER])
        .arg(folder)
        .arg(program)
        .args(args)
        .arg("--store_dir")
        .arg(folder.join("store"))
        .arg("--ports_file_dir")
        .arg(folder.join("ports"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("no shell");
    let mut server = String::new();
    let said = keeper.stdout.take().expect("a keeper without a pipe");
    BufReader::new(said).read_line(&mut server).expect("the keeper does not say what it keeps");
    let server = server.trim().parse().expect("the keeper says something else than a process id");
    let mut running = Running { keeper, server, port: 0 };
    let ports = folder.join(format!("ports/nats-server_{server}.ports"));
    let deadline = Instant::now() + READY;
    loop {
        if let Some(port) = fs::read_to_string(&ports).ok().and_then(|text| client_port(&text)) {
            running.port = port;
            return running;
        }
        if Instant::now() > deadline {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let _ = running.keeper.wait();
            panic!("{} does not listen:\n{log}", program.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// From what the server writes when it listens: `{"nats":["nats://127.0.0.1:4222", …], …}`.
fn client_port(ports: &str) -> Option<u16> {
    let (_, nats) = ports.split_once("\"nats\":")?;
    let (_, first) = nats.split_once("://")?;
    let (url, _) = first.split_once('"')?;
    url.rsplit(':').next()?.parse().ok()
}
