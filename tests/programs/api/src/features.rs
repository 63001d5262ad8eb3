//! Cargo features: a client's names, passed on, on by default where the client's are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Result,
    compare::{Finding, What},
    document::Workspace,
};

type Features = BTreeMap<String, Vec<String>>;

/// What is not the same in two manifests.
pub(crate) fn compare(workspace: &Workspace, client: &str, adapter: &str) -> Result<Vec<Finding>> {
    let theirs = features(package(workspace, client)?);
    let our_package = package(workspace, adapter)?;
    let ours = features(our_package);
    let mut findings = Vec::new();
    let mut finding = |what, subject: String, detail: Option<String>| {
        findings.push(Finding { client: client.replace('-', "_"), what, subject, detail });
    };

    for name in theirs.keys().filter(|name| *name != "default") {
        let passed_on = format!("{client}/{name}");
        match ours.get(name) {
            None => finding(What::Missing, format!("feature {name}"), None),
            Some(enables) if enables.contains(&passed_on) => {}
            Some(enables) => {
                finding(What::Differs, format!("feature {name}"), Some(format!("{enables:?} has no {passed_on}")));
            }
        }
    }
    // Ours begin with `otel-`, so that no name that the client may yet have is taken.
    for name in ours.keys().filter(|name| !theirs.contains_key(*name) && !name.starts_with("otel-")) {
        finding(What::Added, format!("feature {name}"), None);
    }
    let names: BTreeSet<_> = theirs.keys().cloned().collect();
    let by_default = |features| &enabled(features, "default") & &names;
    let (client_defaults, our_defaults) = (by_default(&theirs), by_default(&ours));
    if client_defaults != our_defaults {
        let detail = format!("client: {client_defaults:?}, ours: {our_defaults:?}");
        finding(What::Differs, "default features".into(), Some(detail));
    }
    let dependencies = our_package["dependencies"].as_array().into_iter().flatten();
    if dependencies.filter(|of| of["name"] == client).any(|of| of["uses_default_features"] != false) {
        finding(What::Differs, "dependency".into(), Some("the client's defaults cannot be switched off".into()));
    }
    Ok(findings)
}

fn package<'a>(workspace: &'a Workspace, name: &str) -> Result<&'a Value> {
    let mut packages = workspace.metadata["packages"].as_array().into_iter().flatten();
    packages
        .find(|package| package["name"] == name)
        .ok_or_else(|| format!("cargo metadata knows no package {name}").into())
}

fn features(package: &Value) -> Features {
    let features = package["features"].as_object().into_iter().flatten();
    features
        .map(|(name, enables)| {
            let enables = enables.as_array().into_iter().flatten().filter_map(Value::as_str);
            (name.clone(), enables.map(str::to_owned).collect())
        })
        .collect()
}

/// A feature with all that it enables in its own package.
fn enabled(features: &Features, name: &str) -> BTreeSet<String> {
    let mut enabled = BTreeSet::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        if let Some(enables) = features.get(&name)
            && enabled.insert(name)
        {
            next.extend(enables.iter().cloned());
        }
    }
    enabled
}
