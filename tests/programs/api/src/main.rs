//! Prints what differs between each client's public API and its adapter's.

use std::process::ExitCode;

fn main() -> ExitCode {
    match api::compare() {
        Ok(report) => {
            print!("{}", report.text);
            for problem in &report.problems {
                println!("{problem}");
            }
            println!("{} problems", report.problems.len());
            if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("api: {error}");
            ExitCode::FAILURE
        }
    }
}
