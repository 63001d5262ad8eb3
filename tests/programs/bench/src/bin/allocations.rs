//! What each path allocates, in one mode: `allocations recorded`. One line for each path and side, separated by tabs: path,
//! side, allocations and bytes of one operation.

use bench::{
    BATCH, Failed, Mode, Path, Side, Subject,
    counting::{Allocations, Counting, reading},
};

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() -> Result<(), Failed> {
    let mode: Mode = std::env::args().nth(1).ok_or("which mode?")?.parse()?;
    let batches = if bench::is_quick() { 5 } else { 21 };
    mode.install();
    for path in Path::ALL {
        for side in Side::ALL {
            let mut subject = Subject::new(path, side, mode)?;
            let mut counts = Vec::new();
            for _ in 0..batches {
                let Allocations { count, bytes } = subject.batch(BATCH, reading)?;
                counts.push((count, bytes));
            }
            counts.sort_unstable();
            let (count, bytes) = counts[counts.len() / 2];
            let per_operation = |sum: u64| sum as f64 / f64::from(BATCH);
            println!("{path}\t{side}\t{:.2}\t{:.0}", per_operation(count), per_operation(bytes));
        }
    }
    Ok(())
}
