//! What each path takes, in one mode: `times recorded`. One line for each path and side, separated by tabs: path, side, median
//! nanoseconds of processor time for one operation.

use bench::{Failed, Mode, Path, Side, Subject, cpu_time::medians};

fn main() -> Result<(), Failed> {
    let mode: Mode = std::env::args().nth(1).ok_or("which mode?")?.parse()?;
    mode.install();
    for path in Path::ALL {
        let subjects = Side::ALL.map(|side| Subject::new(path, side, mode));
        let medians = medians(subjects.into_iter().collect::<Result<_, _>>()?)?;
        for (side, median) in Side::ALL.into_iter().zip(medians) {
            println!("{path}\t{side}\t{median}");
        }
    }
    Ok(())
}
