//! docker-compose.yml names files, variables, services and ports: all of them exist, and fit together. What the image is
//! built from is in the build's context.
//!
//! This reads the file and starts nothing. Whether the images exist and the stack comes up is seen only where there are a
//! Docker engine and an image registry: in the workflow's `compose` job.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Ports that an image listens on without being told.
const DEFAULTS: [(&str, &[u16]); 2] = [("rabbitmq", &[5672, 15672]), ("jaeger", &[4318, 14269, 16686])];

/// Ports of this machine that brokers, collectors and dashboards listen on by default: the stack has to start beside them.
const TAKEN: [u16; 15] = [3000, 4222, 4317, 4318, 4369, 5672, 6222, 8222, 9090, 9092, 9093, 9094, 15672, 15692, 25672];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Tree {
    compose: String,
    env: String,
    dockerfile: String,
    sources: String,
}

impl Tree {
    fn read() -> Self {
        let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
        let mut sources = String::new();
        for folder in ["examples/demo/src", "examples/demo/src/services"] {
            for file in fs::read_dir(root().join(folder)).expect(folder) {
                let path = file.expect(folder).path();
                if path.extension().is_some_and(|extension| extension == "rs") {
                    sources += &fs::read_to_string(path).expect("a source file");
                }
            }
        }
        Self {
            compose: read("docker-compose.yml"),
            env: read(".env"),
            dockerfile: read("examples/demo/Dockerfile"),
            sources,
        }
    }

    fn variables(&self) -> BTreeMap<&str, &str> {
        self.env.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
    }

    /// What is wrong, one sentence each.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let variables = self.variables();
        let mut text = self.compose.clone();
        for (name, value) in &variables {
            let named = format!("${{{name}}}");
            if !text.contains(&named) {
                problems.push(format!("{name} stands in .env, but nothing names it"));
            }
            if value.is_empty() {
                problems.push(format!("{name} is empty"));
            }
            text = text.replace(&named, value);
        }
        for rest in text.split("${").skip(1) {
            problems.push(format!("{} is not in .env", rest.split('}').next().unwrap_or_default()));
        }

        let compose: Value = match serde_saphyr::from_str(&text) {
            Ok(compose) => merged(compose),
            Err(error) => return vec![format!("not YAML: {error}")],
        };
        let services = compose["services"].as_object().expect("services");
        let listening: BTreeMap<_, _> = services.iter().map(|(name, it)| (name.as_str(), listens(name, it))).collect();
        for (name, service) in services {
            let mut problem = |what: String| problems.push(format!("{name}: {what}"));
            self.of_image(service, &mut problem);
            let user = service["user"].as_str().unwrap_or_default();
            if user.is_empty() || user == "root" || user.split(':').any(|id| id == "0") {
                problem(format!("runs as {user:?}"));
            }
            if service["stop_grace_period"].is_null() || service["healthcheck"]["test"].is_null() {
                problem("has no grace period or no health check".to_owned());
            }
            for port in service["ports"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let inside = port.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
                if !port.starts_with("127.0.0.1:") {
                    problem(format!("port {port} is open to everybody"));
                }
                if !listening[name.as_str()].contains(&inside) {
                    problem(format!("nobody listens on port {inside}"));
                }
                let outside = port.rsplit(':').nth(1).and_then(|port| port.parse().ok());
                if outside.is_none_or(|outside| TAKEN.contains(&outside)) {
                    problem(format!("port {port} may be taken on this machine"));
                }
            }
            for (address, port) in addresses(&service["healthcheck"]["test"]) {
                if !is_self(name, &address) || !listening[name.as_str()].contains(&port) {
                    problem(format!("the health check asks {address}:{port}, where it does not listen"));
                }
            }
            let needs = service["depends_on"].as_object();
            for (needed, how) in needs.into_iter().flatten() {
                if !services.contains_key(needed) || how["condition"] != "service_healthy" {
                    problem(format!("depends on {needed}, which is no service or not waited for"));
                }
            }
            for (address, port) in addresses(&service["environment"]) {
                if is_self(name, &address) {
                    continue;
                }
                if !listening.get(address.as_str()).is_some_and(|ports| ports.contains(&port)) {
                    problem(format!("is sent to {address}:{port}, where nobody listens"));
                }
                if needs.is_none_or(|needs| !needs.contains_key(&address)) {
                    problem(format!("does not wait for {address}"));
                }
            }
            if !service["build"].is_null() {
                self.of_demo(service, &mut problem);
            }
        }
        problems
    }

    fn of_image(&self, service: &Value, problem: &mut impl FnMut(String)) {
        let image = service["image"].as_str().unwrap_or_default();
        let build = &service["build"];
        if build.is_null() {
            let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
            if !tag.starts_with(|first: char| first.is_ascii_digit()) {
                problem(format!("image {image} is not pinned"));
            }
            return;
        }
        let context = root().join(build["context"].as_str().unwrap_or_default());
        let dockerfile = context.join(build["dockerfile"].as_str().unwrap_or_default());
        if !dockerfile.is_file() {
            problem(format!("{} does not exist", dockerfile.display()));
        }
        let declared: BTreeSet<_> = self.dockerfile.lines().filter_map(|line| line.strip_prefix("ARG ")).collect();
        let given: BTreeSet<_> =
            build["args"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if declared != given {
            problem(format!("the Dockerfile takes {declared:?} and is given {given:?}"));
        }
    }

    /// What holds of the services that are built from this tree.
    fn of_demo(&self, service: &Value, problem: &mut impl FnMut(String)) {
        let environment = service["environment"].as_object().expect("environment");
        for name in environment.keys().filter(|name| !name.starts_with("OTEL_")) {
            if !self.sources.contains(&format!("\"{name}\"")) {
                problem(format!("{name} means nothing to the program"));
            }
        }
        let ready = environment.get("DEMO_READY_FILE").and_then(Value::as_str).unwrap_or_default();
        let test = &service["healthcheck"]["test"];
        if !test.as_array().is_some_and(|test| test.iter().any(|word| word == ready)) {
            problem(format!("the health check does not look at {ready}"));
        }
        let writable = service["tmpfs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if service["read_only"] != true || !writable.clone().any(|folder| Path::new(ready).starts_with(folder)) {
            problem(format!("{ready} is not on the only writable folder"));
        }
        // Without addresses a service says which one it lacks; a command that it does not know, it answers otherwise.
        let command = service["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let demo =
            Command::new(env!("CARGO_BIN_EXE_demo")).args(command).env_clear().output().expect("the demo starts");
        let said = String::from_utf8_lossy(&demo.stderr);
        match said.lines().last().and_then(|line| line.strip_suffix(" must say where to connect to")) {
            Some(lacking) if environment.contains_key(lacking) => {}
            Some(lacking) => problem(format!("{lacking} is not set")),
            None => problem(format!("{} is no command: {said}", service["command"])),
        }
    }
}

/// The ports a service listens on, by what its own settings say.
fn listens(name: &str, service: &Value) -> BTreeSet<u16> {
    let mut ports: BTreeSet<u16> =
        DEFAULTS.iter().filter(|(of, _)| *of == name).flat_map(|(_, ports)| *ports).copied().collect();
    let environment = service["environment"].as_object();
    for (name, value) in environment.into_iter().flatten() {
        if name.ends_with("_LISTEN") || name.ends_with("_LISTENERS") && !name.contains("ADVERTISED") {
            let value = value.as_str().unwrap_or_default();
            ports.extend(value.split(',').filter_map(|it| it.rsplit(':').next()?.parse::<u16>().ok()));
        }
    }
    let command: Vec<_> = service["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for pair in command.windows(2) {
        if pair[0].ends_with("port") {
            ports.extend(pair[1].parse::<u16>());
        }
    }
    ports
}

fn is_self(name: &str, host: &str) -> bool {
    host == name || ["localhost", "127.0.0.1", "0.0.0.0"].contains(&host)
}

/// Everything that looks like `host:port`, wherever it stands.
fn addresses(value: &Value) -> Vec<(String, u16)> {
    match value {
        Value::Array(values) => values.iter().flat_map(addresses).collect(),
        Value::Object(values) => values.values().flat_map(addresses).collect(),
        Value::String(text) => text
            .split(',')
            .filter_map(|one| {
                let one = one.rsplit_once("//").map_or(one, |(_, rest)| rest);
                let one = one.rsplit_once('@').map_or(one, |(_, rest)| rest);
                let (host, port) = one.split('/').next()?.split_once(':')?;
                let port = port.parse().ok()?;
                (!host.is_empty()).then(|| (host.to_owned(), port))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// With every `<<` put in place.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut values) => {
            if let Some(Value::Object(base)) = values.remove("<<") {
                for (key, value) in base {
                    values.entry(key).or_insert(value);
                }
            }
            Value::Object(values.into_iter().map(|(key, value)| (key, merged(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(merged).collect(),
        value => value,
    }
}

#[test]
fn everything_the_compose_file_names_exists() {
    assert_eq!(Tree::read().problems(), Vec::<String>::new());
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let cases = [
        ("${NATS_PORT}", "${NATZ_PORT}", "NATZ_PORT is not in .env"),
        ("${JAEGER_VERSION}", "latest", "is not pinned"),
        ("dockerfile: examples/demo/Dockerfile", "dockerfile: Dockerfile", "does not exist"),
        ("      DEBIAN_RELEASE: ${DEBIAN_RELEASE}\n", "", "the Dockerfile takes"),
        ("user: rabbitmq", "user: root", "rabbitmq: runs as"),
        ("NATS_URL: nats://nats:4222", "NATS_URL: nats://nats:4223", "nats:4223, where nobody listens"),
        ("RABBITMQ_URI: amqp://guest:guest@rabbitmq:", "RABBITMQ_URI: amqp://guest:guest@rabbit:", "rabbit:5672"),
        ("\"4222\"", "\"4221\"", "nobody listens on port 4222"),
        ("127.0.0.1:8222/", "127.0.0.1:8223/", "the health check asks 127.0.0.1:8223"),
        ("      rabbitmq: { condition: service_healthy }\n", "", "does not wait for rabbitmq"),
        ("{ condition: service_healthy }", "{ condition: service_started }", "not waited for"),
        ("ORDERS_LISTEN: 0.0.0.0:8080", "ORDERS_LISTEN: 0.0.0.0:8081", "orders:8080, where nobody listens"),
        ("ORDERS_URL:", "ORDER_URL:", "ORDER_URL means nothing"),
        ("ORDERS_URL:", "ORDER_URL:", "ORDERS_URL is not set"),
        ("command: [\"payment\"]", "command: [\"payments\"]", "is no command"),
        ("\"-f\", \"/tmp/ready\"", "\"-f\", \"/tmp/raedy\"", "does not look at /tmp/ready"),
        ("tmpfs: [\"/tmp\"]", "tmpfs: [\"/run\"]", "not on the only writable folder"),
        ("\"127.0.0.1:${ORDERS_PORT}:8080\"", "\"${ORDERS_PORT}:8080\"", "open to everybody"),
        ("127.0.0.1:${RABBITMQ_PORT}:", "127.0.0.1:25672:", "port 127.0.0.1:25672:5672 may be taken"),
        ("127.0.0.1:${RABBITMQ_PORT}:", "127.0.0.1:", "port 127.0.0.1:5672 may be taken"),
    ];
    for (right, wrong, expected) in cases {
        let mut tree = Tree::read();
        assert!(tree.compose.contains(right), "{right}");
        tree.compose = tree.compose.replace(right, wrong);
        let problems = tree.problems().join("\n");
        assert!(problems.contains(expected), "{wrong} is not seen as {expected:?}:\n{problems}");
    }
}

/// Whether .dockerignore leaves this in the context: the last line that speaks of it decides.
fn is_let_in(dockerignore: &str, path: &Path) -> bool {
    let lines = dockerignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.fold(true, |let_in, line| {
        let pattern = line.trim_start_matches('!');
        let speaks = match pattern.strip_prefix("**/") {
            Some(name) => path.iter().any(|part| part == name),
            None => pattern == "*" || path.starts_with(pattern),
        };
        if speaks { line.starts_with('!') } else { let_in }
    })
}

/// What cargo and the compiler read to build the demo: the manifests of the workspace, the sources of the demo and of
/// what it depends on by path, and the files that these include.
fn read_by_the_build() -> BTreeSet<PathBuf> {
    let root = root().canonicalize().expect("the workspace");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(&root)
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("metadata");
    let packages: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            (Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a folder"), package)
        })
        .collect();
    let mut files = BTreeSet::from([root.join("Cargo.toml"), root.join("Cargo.lock")]);
    files.extend(packages.keys().map(|folder| folder.join("Cargo.toml")));

    let (mut folders, mut seen) = (vec![root.join("examples/demo")], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        if !seen.insert(folder.clone()) {
            continue;
        }
        let dependencies = packages[folder.as_path()]["dependencies"].as_array().expect("dependencies");
        let needed = dependencies.iter().filter(|it| it["kind"] != "dev");
        folders.extend(needed.filter_map(|it| it["path"].as_str().map(PathBuf::from)));
        for source in sources(&folder.join("src")) {
            let text = fs::read_to_string(&source).expect("a source file");
            for include in ["include_str!(\"", "include_bytes!(\"", "include!(\""] {
                let named = text.split(include).skip(1).filter_map(|rest| rest.split('"').next());
                files.extend(named.map(|name| source.with_file_name(name).canonicalize().expect(name)));
            }
            files.insert(source);
        }
    }
    files.into_iter().map(|file| file.strip_prefix(&root).expect("a file of the workspace").to_owned()).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn the_context_of_the_image_has_what_the_build_reads() {
    let dockerignore = fs::read_to_string(root().join(".dockerignore")).expect(".dockerignore");
    let files = read_by_the_build();
    let lacking =
        |dockerignore: &str| files.iter().filter(|it| !is_let_in(dockerignore, it)).cloned().collect::<Vec<_>>();
    assert_eq!(lacking(&dockerignore), Vec::<PathBuf>::new());

    for (line, expected) in [
        ("!registry\n", "registry/spans.yaml"),
        ("!Cargo.lock\n", "Cargo.lock"),
        ("!crates\n", "crates/otel-lapin/README.md"),
        ("!tests\n", "tests/programs/bench/Cargo.toml"),
    ] {
        assert!(dockerignore.contains(line), "{line}");
        let lacking = lacking(&dockerignore.replace(line, ""));
        assert!(lacking.iter().any(|it| it == Path::new(expected)), "without {line:?} only {lacking:?} are lacking");
    }
}
