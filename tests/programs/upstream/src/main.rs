//! The clients' published tests and examples, unchanged, on the clients and on our crates under the clients' names.
//!
//! For each client, from the package that `cargo` fetched and whose checksum is verified: packages whose targets are the
//! published files are generated (`target/upstream`), built and run, on brokers of their own, on two sides: the raw client and
//! ours; with `--with-sdk` on a third, ours with OpenTelemetry's SDK and W3C's propagator installed in the process. Then the
//! outcomes are compared.

mod build;
mod client;
mod compare;
mod expected;
mod generated;
mod outcome;
mod places;
mod published;
mod suite;

use std::{env, error::Error, process::ExitCode, time::Instant};

use crate::{
    client::{CLIENTS, Client},
    compare::Comparison,
    generated::{Side, Workspace},
    places::Places,
    published::Published,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: upstream [--client rdkafka|lapin|async-nats]... [--with-sdk | [--raw-only] [--examples]] [--tries N]
  --client    only this one; may be given several times
  --with-sdk  also our crates with OpenTelemetry's SDK installed in the process
  --raw-only  only the raw clients, compared with nothing
  --examples  builds the examples, on both sides, and runs no test
  --tries     how often a test that fails is tried altogether, on every side; 5 when not given,
              and four times as often where it is listed as flaky";

#[derive(Debug)]
struct Options {
    /// Empty for all.
    clients: Vec<&'static str>,
    with_sdk: bool,
    raw_only: bool,
    examples_only: bool,
    tries: u32,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options =
            Self { clients: Vec::new(), with_sdk: false, raw_only: false, examples_only: false, tries: 5 };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--client" => {
                    let name = args.next()?;
                    options.clients.push(CLIENTS.iter().find(|client| client.name == name)?.name);
                }
                "--with-sdk" => options.with_sdk = true,
                "--raw-only" => options.raw_only = true,
                "--examples" => options.examples_only = true,
                "--tries" => options.tries = args.next()?.parse().ok().filter(|&tries| tries > 0)?,
                _ => return None,
            }
        }
        // What was asked for is not left out in silence.
        let contradicts = options.with_sdk && (options.raw_only || options.examples_only);
        (!contradicts).then_some(options)
    }

    fn runs(&self, client: &Client) -> bool {
        self.clients.is_empty() || self.clients.contains(&client.name)
    }

    fn sides(&self) -> &'static [Side] {
        if self.raw_only {
            &[Side::Raw]
        } else if self.with_sdk {
            &[Side::Raw, Side::Renamed, Side::WithSdk]
        } else {
            &[Side::Raw, Side::Renamed]
        }
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("upstream: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether our crates do as the raw clients do.
fn run(options: &Options) -> Result<bool> {
    let places = Places::find()?;
    // Of all clients, whichever are run, so that versions and what is compiled stay the same.
    let published = Published::find(&places)?;
    for published in &published {
        println!("{published}: {} files as published", published.verify()?);
    }
    let workspace = Workspace::generate(&places, &published)?;

    let mut results = Vec::new();
    for published in published.iter().filter(|published| options.runs(published.client)) {
        results.push((published, compare(options, &workspace, published)));
    }
    let mut alike = true;
    for (published, result) in results {
        match result {
            Ok(comparison) => {
                println!("\n{comparison}");
                alike &= comparison.problems().is_empty();
            }
            Err(error) => {
                println!("\n{published}\nNOT COMPARED: {error}");
                alike = false;
            }
        }
    }
    Ok(alike)
}

fn compare(options: &Options, workspace: &Workspace<'_>, published: &Published) -> Result<Comparison> {
    let client = published.client;
    let mut comparison = Comparison::new(published)?;
    for &side in options.sides() {
        let start = Instant::now();
        let built = build::run(workspace, published, side, options.examples_only)?;
        progress(client, side, "built", start);
        for failure in &built.failures {
            println!("  {failure}");
        }
        let outcomes = if options.examples_only {
            None
        } else {
            let start = Instant::now();
            let tries = |name: &_| expected::tries(&comparison.expected, name, options.tries);
            let outcomes = suite::run(workspace.places, client, side, &built, tries)?;
            progress(client, side, "run", start);
            Some(outcomes)
        };
        comparison.add(side, built, outcomes);
    }
    Ok(comparison)
}

fn progress(client: &Client, side: Side, done: &str, start: Instant) {
    println!("{} {side}: {done} in {:.0} s", client.name, start.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Option<Options> {
        Options::parse(args.iter().map(|&arg| arg.to_owned()))
    }

    #[test]
    fn sides() {
        let sides = |args: &[&str]| parse(args).map(|options| options.sides());
        assert_eq!(sides(&["--raw-only"]).unwrap(), [Side::Raw]);
        for two in [&[][..], &["--examples"], &["--client", "lapin"]] {
            assert_eq!(sides(two).unwrap(), [Side::Raw, Side::Renamed]);
        }
        assert_eq!(sides(&["--client", "lapin", "--with-sdk"]).unwrap(), [Side::Raw, Side::Renamed, Side::WithSdk]);
        assert!(sides(&["--with-sdk", "--raw-only"]).is_none());
        assert!(sides(&["--examples", "--with-sdk"]).is_none());
    }

    #[test]
    fn options() {
        let options = parse(&["--client", "lapin", "--tries", "5", "--raw-only"]).unwrap();
        assert_eq!(CLIENTS.each_ref().map(|client| options.runs(client)), [false, true, false]);
        assert_eq!((options.tries, options.raw_only, options.examples_only), (5, true, false));
        assert_eq!(CLIENTS.each_ref().map(|client| parse(&[]).unwrap().runs(client)), [true; 3]);
        assert!(parse(&["--client", "kafka"]).is_none());
        assert!(parse(&["--tries", "0"]).is_none());
        assert!(parse(&["--quick"]).is_none());
    }
}
