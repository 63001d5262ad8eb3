//! Whether the files in `registry/` have the form that weaver wants, by its own schemas (`schemas/`).

use std::{fs, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

fn definitions() -> Validator {
    validator(include_str!("../schemas/semconv.schema.v2.json"), |_| ())
}

/// Weaver reads a schema URL as text, and refuses the object that its schema says it is.
fn manifest() -> Validator {
    validator(include_str!("../schemas/definition-manifest.v2.json"), |schema| {
        let url = &mut schema["$defs"]["SchemaUrl"];
        assert_eq!(url["type"], "object", "weaver's schema is mended");
        *url = json!({"type": "string", "pattern": "^https?://[^/]+/([^/]+/)*[^/]+$"});
    })
}

fn validator(schema: &str, mend: fn(&mut Value)) -> Validator {
    let mut schema = serde_json::from_str(schema).expect("a schema is JSON");
    mend(&mut schema);
    jsonschema::validator_for(&schema).expect("a schema is one")
}

/// What is wrong with a file; empty when nothing is.
fn wrong(validator: &Validator, file: &str) -> Vec<String> {
    let file: Value = serde_saphyr::from_str(file).expect("a file is YAML");
    validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_registry_is_as_weaver_wants_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../registry");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let validator = if name == "manifest.yaml" { manifest() } else { definitions() };
        assert_eq!(wrong(&validator, &fs::read_to_string(path).unwrap()), [""; 0], "{name}");
        files.push(name);
    }
    files.sort();
    assert_eq!(files, ["attributes.yaml", "manifest.yaml", "metrics.yaml", "spans.yaml"]);
}

#[test]
fn a_manifest_without_its_schema_url_is_refused() {
    let url = "schema_url: https://otel-messaging.invalid/schemas/0.1.0";
    assert_eq!(wrong(&manifest(), url), [""; 0]);
    assert!(!wrong(&manifest(), "description: Ours.").is_empty());
    assert!(!wrong(&manifest(), "schema_url: otel-messaging").is_empty());
    assert!(!wrong(&manifest(), &format!("{url}\ndependencies: [{{name: otel, registry_path: model}}]")).is_empty());
}

#[test]
fn a_file_of_another_form_is_refused() {
    let refused = |rest: &str| !wrong(&definitions(), &format!("file_format: definition/2\n{rest}")).is_empty();
    assert!(!refused("attributes: [{key: x, type: int, brief: A number., stability: development}]"));
    assert!(refused("attributes: [{id: x, type: int, brief: A number., stability: development}]"));
    assert!(refused("attributes: [{key: x, type: number, brief: A number., stability: development}]"));
    assert!(refused("attributes: [{key: x, type: int, stability: development}]"));
    assert!(refused("groups: [{id: x, type: attribute_group, brief: Attributes., attributes: []}]"));
    let span = |attribute: &str| format!("span_refinements: [{{id: x, ref: messaging.x, attributes: [{attribute}]}}]");
    assert!(!refused(&span("{ref: x, requirement_level: opt_in, sampling_relevant: true}")));
    assert!(refused(&span("{ref: x, requirement_level: always}")));
    assert!(refused(&span("{name: x}")));
    assert!(!wrong(&definitions(), "file_format: definition/1").is_empty());
}
