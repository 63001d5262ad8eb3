//! What the convention's own validator, weaver, says of our registry and of all that the scenarios export.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use futures::future::join_all;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{broker::BROKERS, check, stage::GRPC};

type Result<T> = std::result::Result<T, String>;

/// The version that semantic conventions 1.44.0 pin.
const VERSION: &str = "0.25.1";

/// What weaver recommends and we do not do, line by line; the comments give the reasons.
const IMPROVEMENTS: &str = include_str!("../improvements.txt");

/// A finding that we ignore: nothing of messaging is stable yet, neither in the convention nor in our registry.
const NOT_STABLE: &str = "not_stable";

/// How long weaver may take to read the registry, and to write its report.
const DEADLINE: Duration = Duration::from_secs(120);

/// Whether weaver takes the registry, and finds no violation in what is exported and no improvement but those listed.
pub(crate) async fn live_check() -> bool {
    match findings().await {
        Ok(findings) => {
            print!("{}", findings.text);
            findings.none_is_new
        }
        Err(why) => {
            eprintln!("{why}");
            false
        }
    }
}

struct Findings {
    text: String,
    none_is_new: bool,
}

async fn findings() -> Result<Findings> {
    let weaver = program().await?;
    let folder = Folder::new()?;
    let registry = folder.registry()?;
    let checked = Command::new(&weaver).args(["registry", "check", "--v2", "-r"]).arg(&registry).status().await;
    if !checked.map_err(|error| format!("{weaver}: {error}"))?.success() {
        return Err("weaver refuses the registry".to_owned());
    }

    let live = Live::start(&weaver, &registry, &folder.0).await?;
    let endpoint = format!("http://127.0.0.1:{}", live.otlp);
    let performed = join_all(BROKERS.map(|broker| check::perform(broker, &endpoint, GRPC, None))).await;
    let report = live.stop(&folder.0).await?;
    if performed.contains(&false) {
        return Err("not all scenarios were performed".to_owned());
    }
    judge(&report, IMPROVEMENTS)
}

/// The program to run, if it is of the right version.
async fn program() -> Result<String> {
    let weaver = env::var("WEAVER").unwrap_or_else(|_| "weaver".to_owned());
    let missing = |found: &str| {
        format!(
            "weaver {VERSION} is needed, {found}; WEAVER names the program (github.com/open-telemetry/weaver, releases)"
        )
    };
    let output = Command::new(&weaver).arg("--version").output().await;
    let output = output.map_err(|error| missing(&format!("{weaver}: {error}")))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if version.split(' ').next_back() == Some(VERSION) { Ok(weaver) } else { Err(missing(&format!("not {version}"))) }
}

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("live-check-{}", process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Our registry; where `SEMCONV_MODEL` is a folder with the official one, a copy that depends on that and on no network.
    fn registry(&self) -> Result<PathBuf> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../registry");
        let Ok(model) = env::var("SEMCONV_MODEL") else { return Ok(ours) };
        let copy = self.0.join("registry");
        let copied = (|| {
            fs::create_dir(&copy)?;
            for file in fs::read_dir(&ours)? {
                let file = file?;
                let text = fs::read_to_string(file.path())?.replace(OFFICIAL, &model);
                fs::write(copy.join(file.file_name()), text)?;
            }
            Ok::<_, std::io::Error>(())
        })();
        copied.map_err(|error| format!("{}: {error}", copy.display()))?;
        Ok(copy)
    }
}

/// Where our manifest finds the official registry.
const OFFICIAL: &str = "https://github.com/open-telemetry/semantic-conventions/archive/refs/tags/v1.44.0.zip[model]";

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A weaver that listens for OTLP.
struct Live {
    weaver: Child,
    http: reqwest::Client,
    otlp: u16,
    admin: u16,
}

impl Live {
    async fn start(weaver: &str, registry: &Path, output: &Path) -> Result<Self> {
        let [otlp, admin] = free_ports().map_err(|error| format!("no port is free: {error}"))?;
        let mut command = Command::new(weaver);
        command.args(["registry", "live-check", "--v2", "--include-unreferenced", "-r"]).arg(registry);
        command.args(["--otlp-grpc-address", "127.0.0.1", "--otlp-grpc-port", &otlp.to_string()]);
        command.args(["--admin-port", &admin.to_string(), "--inactivity-timeout", "600"]);
        command.args(["--format", "json", "--output"]).arg(output);
        let weaver = command.kill_on_drop(true).spawn().map_err(|error| format!("{weaver}: {error}"))?;
        let mut live = Self { weaver, http: reqwest::Client::new(), otlp, admin };
        let health = live.url("health");
        let ready = async {
            loop {
                if live.http.get(&health).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                if let Ok(Some(status)) = live.weaver.try_wait() {
                    return Err(format!("weaver ended before it listened: {status}"));
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(DEADLINE, ready).await.map_err(|_| "weaver does not listen".to_owned())??;
        Ok(live)
    }

    fn url(&self, what: &str) -> String {
        format!("http://127.0.0.1:{}/{what}", self.admin)
    }

    /// Stops weaver, and returns its report.
    async fn stop(mut self, output: &Path) -> Result<Value> {
        let stop = self.http.post(self.url("stop")).send().await;
        stop.map_err(|error| format!("weaver does not stop: {error}"))?;
        let ended = timeout(DEADLINE, self.weaver.wait()).await;
        ended.map_err(|_| "weaver does not end".to_owned())?.map_err(|error| format!("weaver: {error}"))?;
        let report = output.join("live_check.json");
        let text = fs::read_to_string(&report).map_err(|error| format!("weaver has no report: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("weaver's report: {error}"))
    }
}

fn free_ports() -> std::io::Result<[u16; 2]> {
    let bound = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let [one, other] = bound;
    Ok([one?.local_addr()?.port(), other?.local_addr()?.port()])
}

/// Holds a report against the improvements that are listed: none may be new, and each listed one must still be found.
fn judge(report: &Value, listed: &str) -> Result<Findings> {
    let mut found = BTreeMap::<_, BTreeSet<String>>::new();
    collect(report, &mut found);
    let entities = |kind: &str| report["statistics"]["total_entities_by_type"][kind].as_u64().unwrap_or(0);
    let counts = ["span", "metric", "log"].map(|kind| (kind, entities(kind)));
    if let Some((kind, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(format!("weaver has seen no {kind}"));
    }

    let of = |level: &str| found.get(level).cloned().unwrap_or_default();
    let listed: BTreeSet<_> =
        listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let improvements = of("improvement");
    let mut lines = Vec::new();
    lines.extend(of("violation").iter().map(|it| format!("VIOLATION  {it}")));
    lines.extend(improvements.difference(&listed).map(|it| format!("NEW        {it}")));
    lines.extend(listed.difference(&improvements).map(|it| format!("NO LONGER  {it}")));
    let none_is_new = lines.is_empty();
    let [spans, metrics, logs] = counts.map(|(_, count)| count);
    lines.push(format!(
        "weaver {VERSION}: {spans} spans, {metrics} metrics, {logs} log records, {} violations, {} improvements, all of them listed: {}",
        of("violation").len(),
        improvements.len(),
        if none_is_new { "yes" } else { "no" },
    ));
    Ok(Findings { text: lines.join("\n") + "\n", none_is_new })
}

/// All findings in a report, by their level.
fn collect(report: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match report {
        Value::Array(all) => all.iter().for_each(|it| collect(it, found)),
        Value::Object(all) => {
            for (key, value) in all {
                if key == "all_advice" {
                    for advice in value.as_array().into_iter().flatten().filter(|it| it["id"] != NOT_STABLE) {
                        let level = advice["level"].as_str().unwrap_or("violation").to_owned();
                        found.entry(level).or_default().insert(finding(advice));
                    }
                } else {
                    collect(value, found);
                }
            }
        }
        _ => (),
    }
}

/// Its kind, the metric where it is of one, and the attribute or else all that weaver says. Names of spans are left out: a finding
/// is about all of a kind.
fn finding(advice: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metric = text(&advice["signal_name"]).filter(|_| advice["signal_type"] == "metric");
    let about = text(&advice["context"]["attribute_key"]).or_else(|| text(&advice["message"]));
    [text(&advice["id"]), metric, about].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(level: &str) -> Value {
        json!({
            "samples": [{"span": {"attributes": [{"live_check_result": {"all_advice": [{
                "level": level, "id": "undefined_enum_variant", "signal_type": "span", "signal_name": "send orders",
                "context": {"attribute_key": "messaging.system"}, "message": "Enum attribute has a variant of its own"
            }, {"level": level, "id": "not_stable"}]}}]}}],
            "statistics": {"total_entities_by_type": {"span": 1, "metric": 2, "log": 3}},
        })
    }

    fn says(report: &Value, listed: &str) -> (bool, String) {
        let Findings { text, none_is_new } = judge(report, listed).unwrap();
        (none_is_new, text.lines().next().unwrap().to_owned())
    }

    #[test]
    fn an_improvement_has_to_be_listed_and_one_that_is_listed_to_be_found() {
        let listed = "# why\nundefined_enum_variant messaging.system\n";
        assert!(says(&report("improvement"), listed).0);
        assert_eq!(
            says(&report("improvement"), ""),
            (false, "NEW        undefined_enum_variant messaging.system".to_owned())
        );
        assert_eq!(
            says(&report("information"), listed),
            (false, "NO LONGER  undefined_enum_variant messaging.system".to_owned())
        );
        assert!(says(&report("information"), "").0);
    }

    #[test]
    fn a_violation_is_never_excused() {
        let (none_is_new, first) = says(&report("violation"), "undefined_enum_variant messaging.system\n");
        assert_eq!((none_is_new, first.as_str()), (false, "VIOLATION  undefined_enum_variant messaging.system"));
    }

    #[test]
    fn a_report_on_nothing_is_no_report() {
        let mut nothing = report("information");
        nothing["statistics"]["total_entities_by_type"]["log"] = json!(0);
        assert_eq!(judge(&nothing, "").err().as_deref(), Some("weaver has seen no log"));
    }

    #[test]
    fn the_manifest_names_the_official_registry() {
        assert!(include_str!("../../../../registry/manifest.yaml").contains(OFFICIAL));
    }
}
