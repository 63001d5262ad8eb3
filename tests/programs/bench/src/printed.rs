//! What the programs print that measure one mode each.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
};

use crate::{Failed, Mode, Path, Side};

/// The first number of each path and side.
pub struct Numbers(HashMap<(String, String), f64>);

impl Numbers {
    /// What this program prints of this mode.
    pub fn of(program: &str, mode: Mode) -> Result<Self, Failed> {
        let output = Command::new(program).arg(mode.to_string()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{program} {mode}: {}", output.status).into());
        }
        let number = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, side, number, ..] => Ok(((path.to_owned(), side.to_owned()), number.parse()?)),
            _ => Err(format!("{program} printed {line}").into()),
        };
        String::from_utf8(output.stdout)?.lines().map(number).collect::<Result<_, Failed>>().map(Self)
    }

    /// That of one path on one side; `None` for what the program leaves out.
    pub fn get(&self, path: Path, side: Side) -> Option<f64> {
        self.0.get(&(path.to_string(), side.to_string())).copied()
    }
}
