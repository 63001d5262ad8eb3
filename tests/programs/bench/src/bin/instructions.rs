//! What each path executes, in one mode: `instructions recorded`. One line for each path and side, separated by tabs: path,
//! side, instructions of one operation, median of batches. Counted by callgrind; without valgrind it says so and prints nothing else.
//!
//! The program runs itself under valgrind. Counting is switched on by the two functions that are a batch's measured parts,
//! on the thread that is in them and on no other; each batch ends with a call to [`batch_done`], which makes callgrind write
//! one file.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    path::PathBuf,
    process::{Command, ExitCode, Stdio, id},
    time::Duration,
};

use bench::{BATCH, Failed, Mode, Path, Side, Subject};

/// How many batches are counted of each path and side: what the heap is like, and who wakes whom, differs a little.
const BATCHES: usize = 5;

/// Said to the program by itself.
const COUNTED: &str = "counted";

fn main() -> Result<ExitCode, Failed> {
    let mut arguments = env::args().skip(1);
    let mode: Mode = arguments.next().ok_or("which mode?")?.parse()?;
    if arguments.next().as_deref() == Some(COUNTED) {
        operate_all(mode)?;
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("instructions are not counted: valgrind is not installed (Debian: apt-get install valgrind)");
        return Ok(ExitCode::SUCCESS);
    }
    let folder = env::temp_dir().join(format!("bench-callgrind-{}", id()));
    fs::create_dir_all(&folder)?;
    let counts = count(mode, &folder);
    fs::remove_dir_all(&folder)?;
    for ((path, side), counts) in all().zip(counts?.chunks_mut(BATCHES)) {
        counts.sort_unstable();
        println!("{path}\t{side}\t{}", counts[BATCHES / 2] / u64::from(BATCH));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is counted, in the order of callgrind's files. A `FutureProducer` is left out: half of its work is done by a thread
/// which is not the caller's.
fn all() -> impl Iterator<Item = (Path, Side)> {
    let paths = Path::ALL.into_iter().filter(|path| *path != Path::KafkaSendFuture);
    paths.flat_map(|path| Side::ALL.into_iter().map(move |side| (path, side)))
}

fn operate_all(mode: Mode) -> Result<(), Failed> {
    mode.install();
    for (path, side) in all() {
        let mut subject = Subject::new(path, side, mode)?;
        warm_up_done();
        for _ in 0..BATCHES {
            subject.batch(BATCH, |_| Duration::ZERO)?;
            batch_done();
        }
    }
    Ok(())
}

// Each does something else, because two functions that do the same are one to the linker.

/// What was counted before is forgotten.
#[inline(never)]
fn warm_up_done() {
    black_box("warm");
}

/// What was counted is written.
#[inline(never)]
fn batch_done() {
    black_box(BATCH);
}

fn count(mode: Mode, folder: &std::path::Path) -> Result<Vec<u64>, Failed> {
    let valgrind = without_random_addresses("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=bench::subject::operate*", "--toggle-collect=bench::subject::answers*"])
        .args(["--zero-before=instructions::warm_up_done*", "--dump-before=instructions::batch_done*"])
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
        .arg(env::current_exe()?)
        .args([&mode.to_string(), COUNTED])
        .status()?;
    if !valgrind.success() {
        return Err(format!("valgrind: {valgrind}").into());
    }
    // The last file is that of the program's end.
    (1..=all().count() * BATCHES).map(|part| total(folder.join(format!("out.{part}")))).collect()
}

/// A command whose memory has the same addresses in every run: what the allocator does depends on them, by up to 2 % of all
/// instructions. Where the system forbids that (some containers do), a command as any other.
fn without_random_addresses(program: &str) -> Command {
    let setarch = || {
        let mut command = Command::new("setarch");
        command.arg("-R");
        command
    };
    let works = setarch().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if works {
        let mut command = setarch();
        command.arg(program);
        return command;
    }
    Command::new(program)
}

fn total(file: PathBuf) -> Result<u64, Failed> {
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("no total in callgrind's file")?;
    total.trim().parse().map_err(|error: std::num::ParseIntError| Box::<dyn Error + Send + Sync>::from(error))
}
