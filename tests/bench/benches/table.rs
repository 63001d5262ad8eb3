//! All measurements as one table in Markdown, as it stands in the README.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
};

use bench::{Failed, Mode, Path, Side};

/// What one of the programs printed: the first number of each path and side.
type Numbers = HashMap<(String, String), f64>;

fn main() -> Result<(), Failed> {
    println!(
        "| path | mode | raw ns | by hand ns | ours ns | ours / raw | ours / by hand | allocations: raw, by hand, ours | instructions: raw, by hand, ours |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let modes = Mode::ALL.into_iter().map(Measured::of).collect::<Result<Vec<_>, _>>()?;
    for path in Path::ALL {
        for measured in &modes {
            println!("{}", measured.row(path));
        }
    }
    println!();
    println!(
        "Processor time of the calling thread for one operation, median of batches in which the sides take turns; for the"
    );
    println!(
        "future that of the whole process, librdkafka and its mock included. Allocations of Rust code, likewise. Instructions"
    );
    println!("of the calling thread, by callgrind.");
    Ok(())
}

struct Measured {
    mode: Mode,
    times: Numbers,
    allocations: Numbers,
    instructions: Numbers,
}

impl Measured {
    fn of(mode: Mode) -> Result<Self, Failed> {
        Ok(Self {
            mode,
            times: numbers(env!("CARGO_BIN_EXE_times"), mode)?,
            allocations: numbers(env!("CARGO_BIN_EXE_allocations"), mode)?,
            instructions: numbers(env!("CARGO_BIN_EXE_instructions"), mode)?,
        })
    }

    fn row(&self, path: Path) -> String {
        let [raw, by_hand, ours] = Side::ALL.map(|side| of(&self.times, path, side));
        format!(
            "| {path} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.mode,
            whole(raw),
            whole(by_hand),
            whole(ours),
            ratio(ours, raw),
            ratio(ours, by_hand),
            three(&self.allocations, path),
            three(&self.instructions, path),
        )
    }
}

fn numbers(program: &str, mode: Mode) -> Result<Numbers, Failed> {
    let output = Command::new(program).arg(mode.to_string()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{program} {mode}: {}", output.status).into());
    }
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, side, number, ..] => Ok(((path.to_owned(), side.to_owned()), number.parse()?)),
            _ => Err(format!("{program} printed {line}").into()),
        })
        .collect()
}

fn of(numbers: &Numbers, path: Path, side: Side) -> Option<f64> {
    numbers.get(&(path.to_string(), side.to_string())).copied()
}

fn whole(number: Option<f64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.0}"))
}

fn ratio(one: Option<f64>, other: Option<f64>) -> String {
    match (one, other) {
        (Some(one), Some(other)) if other > 0.0 => format!("{:.2}", one / other),
        _ => "–".to_owned(),
    }
}

fn three(numbers: &Numbers, path: Path) -> String {
    Side::ALL.map(|side| whole(of(numbers, path, side))).join(", ")
}
