//! Runs the test programs of a side, all on the same broker, and tries again what fails.

use std::{
    fs::{self, File},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    build::Built,
    client::{Broker, Client},
    generated::{self, Side},
    outcome::{self, Name, Outcome, Outcomes, Spans, Verdict},
    places::Places,
};

/// For all tests of a target. The slowest need two minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// For one test by itself.
const PATIENCE_WITH_ONE: Duration = Duration::from_secs(3 * 60);

/// `tries` says how often a test is tried at most.
pub(crate) fn run(
    places: &Places,
    client: &Client,
    side: Side,
    built: &Built,
    tries: impl Fn(&Name) -> u32 + Sync,
) -> Result<Outcomes> {
    let broker = client.broker()?;
    let left = Mutex::new(built.tests.iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut outcomes = Outcomes::default();
        while let Some((target, program)) = next() {
            let suite = Suite { places, client, side, target, program, broker: &broker };
            // An error of a thread has to be one that can be sent.
            suite.run(&tries, &mut outcomes).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(outcomes)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..client.programs_at_once).map(|_| scope.spawn(worker)).collect();
        let mut all = Outcomes::default();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// One test program.
struct Suite<'a> {
    places: &'a Places,
    client: &'a Client,
    side: Side,
    target: &'a str,
    program: &'a Path,
    broker: &'a Broker,
}

impl Suite<'_> {
    fn run(&self, tries: impl Fn(&Name) -> u32, outcomes: &mut Outcomes) -> Result<()> {
        let listed = self.list()?;
        // All of it may be behind a feature that is off.
        if listed.is_empty() {
            return Ok(());
        }
        let threads = self.client.threads.to_string();
        let (_, output) = self.process("all", &["--test-threads", &threads], PATIENCE, &mut outcomes.spans)?;
        let verdicts = outcome::read(&output);
        for test in listed {
            // What the program did not come to has failed.
            let verdict = verdicts.get(&test).copied().unwrap_or(Verdict::Failed);
            let mut outcome = Outcome { verdict, tries: 1, panicked_at: outcome::panicked_at(&output, &test) };
            let name = (self.target.to_owned(), test);
            while outcome.verdict == Verdict::Failed && outcome.tries < tries(&name) {
                outcome.tries += 1;
                self.again(&name.1, &mut outcome, &mut outcomes.spans)?;
            }
            outcomes.tests.insert(name, outcome);
        }
        Ok(())
    }

    fn again(&self, test: &str, outcome: &mut Outcome, spans: &mut Spans) -> Result<()> {
        let run = format!("{}-{}", test.replace("::", "."), outcome.tries);
        let (status, output) = self.process(&run, &["--exact", test], PATIENCE_WITH_ONE, spans)?;
        if status.is_some_and(|status| status.success()) && output.contains("test result: ok. 1 passed;") {
            outcome.verdict = Verdict::Passed;
        } else {
            outcome.panicked_at = outcome::panicked_at(&output, test).or(outcome.panicked_at.take());
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        let output = Command::new(self.program).args(["--list", "--format", "terse"]).output()?;
        if !output.status.success() {
            return Err(format!("{} cannot list its tests", self.target).into());
        }
        let output = String::from_utf8(output.stdout)?;
        Ok(output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// The program's end, or none where it was not awaited, and what it printed.
    fn process(
        &self,
        run: &str,
        args: &[&str],
        patience: Duration,
        spans: &mut Spans,
    ) -> Result<(Option<ExitStatus>, String)> {
        let package = self.side.package(self.client);
        let name = format!("{package}-{}-{run}", self.target);
        let log = self.places.log(&name)?;
        let report = self.places.log(&format!("{name}.spans"))?;
        let folder = generated::folder(self.places, &package);
        let mut child = Command::new(self.program)
            .args(args)
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder)
            .env("WITH_SDK_REPORT", &report)
            .envs(self.broker.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(with_extension(&log, "stderr"))?)
            .spawn()?;
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                println!("  {name} was not done after {} s and was killed", patience.as_secs());
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        if self.side == Side::WithSdk {
            spans.add(&name, &fs::read_to_string(&report)?);
        }
        Ok((status, String::from_utf8_lossy(&fs::read(&log)?).into_owned()))
    }
}

fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env};

    use super::*;
    use crate::client::CLIENTS;

    fn outcomes(test: &str, side: Side) -> Outcomes {
        let home = env::temp_dir().join(format!("upstream-suite-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        let places = Places { workspace: home.clone(), target: home.clone(), home };
        // One that starts no broker.
        let client = &CLIENTS[2];
        fs::create_dir_all(generated::folder(&places, &side.package(client))).unwrap();
        // A file of the tree: one that was just written may be open still in a process that another test has started.
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite/program.sh");
        let built =
            Built { tests: BTreeMap::from([("t".to_owned(), program)]), examples: [].into(), failures: Vec::new() };
        let outcomes = run(&places, client, side, &built, |(_, test)| if test == "lost" { 2 } else { 5 }).unwrap();
        fs::remove_dir_all(&places.home).unwrap();
        outcomes
    }

    #[test]
    fn what_fails_is_tried_again() {
        let outcomes = outcomes("tries", Side::Raw);
        let of = |test: &str| {
            let outcome = &outcomes.tests[&("t".to_owned(), test.to_owned())];
            (outcome.verdict, outcome.tries, outcome.panicked_at.as_deref())
        };
        assert_eq!(of("steady"), (Verdict::Passed, 1, None));
        assert_eq!(of("flaky"), (Verdict::Passed, 3, Some("tests/t.rs:7")));
        assert_eq!(of("lost"), (Verdict::Failed, 2, Some("tests/t.rs:7")));
        assert_eq!(outcomes.spans, Spans::default());
    }

    #[test]
    fn every_process_with_the_sdk_has_to_report() {
        let problems = outcomes("spans", Side::WithSdk).spans.problems;
        // The first of all, two tries of the flaky one, one of the lost one.
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert_eq!(problems[0], "async-nats-with-sdk-t-all did not report its spans");
    }
}
