//! All measurements as one table in Markdown, as it stands in the README.

use bench::{Failed, Mode, Path, Side, printed::Numbers};

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
    println!("of the calling thread, by callgrind, likewise.");
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
            times: Numbers::of(env!("CARGO_BIN_EXE_times"), mode)?,
            allocations: Numbers::of(env!("CARGO_BIN_EXE_allocations"), mode)?,
            instructions: Numbers::of(env!("CARGO_BIN_EXE_instructions"), mode)?,
        })
    }

    fn row(&self, path: Path) -> String {
        let [raw, by_hand, ours] = Side::ALL.map(|side| self.times.get(path, side));
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
    Side::ALL.map(|side| whole(numbers.get(path, side))).join(", ")
}
