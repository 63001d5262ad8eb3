//! What each path takes, in one mode: `times recorded`. One line for each path and side, separated by tabs: path, side, median
//! nanoseconds of processor time for one operation.
//!
//! Sides take turns, batch by batch, so that what slows the machine slows all of them.

use bench::{BATCH, Failed, Mode, Path, Side, Subject, cpu_time};

fn main() -> Result<(), Failed> {
    let mode: Mode = std::env::args().nth(1).ok_or("which mode?")?.parse()?;
    let rounds = if bench::is_quick() { 11 } else { 201 };
    mode.install();
    for path in Path::ALL {
        let mut subjects = Vec::new();
        for side in Side::ALL {
            subjects.push((side, Subject::new(path, side, mode)?, Vec::with_capacity(rounds)));
        }
        for _ in 0..rounds {
            // Nobody is always the first.
            subjects.rotate_left(1);
            for (_, subject, times) in &mut subjects {
                times.push(subject.batch(BATCH, cpu_time::reading)?);
            }
        }
        for side in Side::ALL {
            for (_, _, times) in subjects.iter_mut().filter(|(its, ..)| *its == side) {
                times.sort_unstable();
                let median = times[times.len() / 2].as_nanos() / u128::from(BATCH);
                println!("{path}\t{side}\t{median}");
            }
        }
    }
    Ok(())
}
