//! Each path, on each side, in each mode, by criterion. The time is processor time.
//!
//! `cargo bench -p bench --bench paths -- 'recorded/NATS'` runs some of them.

use std::{
    env,
    process::{Command, ExitCode},
    time::Duration,
};

use bench::{BATCH, Failed, Mode, Path, Side, Subject, cpu_time};
use criterion::Criterion;

/// Names the mode of a process that measures. Without it the program runs itself once for each.
const MODE: &str = "BENCH_MODE";

fn main() -> Result<ExitCode, Failed> {
    if let Ok(mode) = env::var(MODE) {
        let mode = mode.parse()?;
        return measure(mode).map(|()| ExitCode::SUCCESS);
    }
    for mode in Mode::ALL {
        let mut itself = Command::new(env::current_exe()?);
        if !itself.args(env::args_os().skip(1)).env(MODE, mode.to_string()).status()?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(mode: Mode) -> Result<(), Failed> {
    mode.install();
    let mut criterion = Criterion::default().configure_from_args();
    if bench::is_quick() {
        let brief = Duration::from_millis(20);
        criterion = criterion.sample_size(10).warm_up_time(brief).measurement_time(brief).without_plots();
    }
    for path in Path::ALL {
        let mut group = criterion.benchmark_group(format!("{mode}/{path}"));
        for side in Side::ALL {
            // Made when it is first needed: most are filtered out.
            let mut subject = None;
            group.bench_function(side.to_string(), |bencher| {
                let subject = subject.get_or_insert_with(|| Subject::new(path, side, mode).unwrap());
                bencher.iter_custom(|iterations| many(subject, iterations).unwrap());
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

fn many(subject: &mut Subject, mut operations: u64) -> Result<Duration, Failed> {
    let mut time = Duration::ZERO;
    while operations > 0 {
        let batch = u32::try_from(operations).unwrap_or(BATCH).min(BATCH);
        time += subject.batch(batch, cpu_time::reading)?;
        operations -= u64::from(batch);
    }
    Ok(time)
}
