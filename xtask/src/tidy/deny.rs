//! Licences, bans and sources of everything that is compiled, by the words of `deny.toml`.
//!
//! `cargo deny` reads the same file and sees more, but costs four minutes of CPU to install, and
//! its list of advisories comes over the network. This covers what a change may break, in no time;
//! `cargo xtask check --full` runs the tool itself where it is installed, as does `.ci/run`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Finding;
use super::crates::{Metadata, Package};
use super::tree::Tree;

const CONFIG: &str = "deny.toml";

/// The part of `deny.toml` that is read here.
#[derive(Debug, Deserialize)]
struct Config {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
}

pub(super) fn check(metadata: &Metadata, tree: &Tree, findings: &mut Vec<Finding>) {
    let text = tree
        .file(CONFIG)
        .and_then(|file| file.text())
        .unwrap_or_default();
    let config: Config = match toml::from_str(text) {
        Ok(config) => config,
        Err(error) => {
            let message = format!("unreadable: {}", error.message());
            findings.push(Finding::error(CONFIG, 1, message));
            return;
        }
    };
    for package in &metadata.packages {
        check_package(package, &config, findings);
    }
    check_members(metadata, findings);
    check_versions(metadata, findings);
}

fn check_package(package: &Package, config: &Config, findings: &mut Vec<Finding>) {
    let mut error = |message: String| {
        let message = format!("{} {}: {message}", package.name, package.version);
        findings.push(Finding::error("Cargo.lock", 1, message));
    };
    if config.bans.deny.iter().any(|ban| ban.name == package.name) {
        error(format!("banned by {CONFIG}, see the reason there"));
    }
    if package
        .source
        .as_ref()
        .is_some_and(|source| !source.starts_with("registry+"))
    {
        error("not from the registry, depend on a released version".to_owned());
    }
    let Some(license) = &package.license else {
        return error("no licence named, find a package that has one".to_owned());
    };
    let expression = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX);
    let is_allowed = expression.is_ok_and(|expression| {
        expression.evaluate(|wanted| config.licenses.allow.contains(&wanted.to_string()))
    });
    if !is_allowed {
        error(format!(
            "licence `{license}` is not in the list of {CONFIG}"
        ));
    }
}

/// A member of the workspace pins each library to a compatible range.
fn check_members(metadata: &Metadata, findings: &mut Vec<Finding>) {
    for (package, folder) in metadata.members() {
        let external = package
            .dependencies
            .iter()
            .filter(|used| used.path.is_none());
        for used in external.filter(|used| used.req == "*") {
            let message = format!("`{}` in any version, name the one you mean", used.name);
            findings.push(Finding::error(
                &format!("{folder}/Cargo.toml"),
                1,
                format!("{}: {message}", package.name),
            ));
        }
    }
}

/// Two versions of one library cost build time and size; sometimes there is no way around.
fn check_versions(metadata: &Metadata, findings: &mut Vec<Finding>) {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        versions
            .entry(&package.name)
            .or_default()
            .push(&package.version);
    }
    for (name, versions) in versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
    {
        let message = format!("{name} in several versions: {}", versions.join(", "));
        findings.push(Finding::warning("Cargo.lock", 1, message));
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::crates::samples::{external, member, metadata, uses};
    use crate::tidy::tree::Tree;
    use serde_json::Value;

    const CONFIG: &str = "[licenses]\nallow = [\"MIT\", \"Apache-2.0 WITH LLVM-exception\"]\n\
                          [bans]\ndeny = [{ crate = \"openssl\" }]\n";
    const REGISTRY: &str = "registry+https://example.org/index";

    fn messages(packages: &[Value]) -> Vec<String> {
        let mut findings = Vec::new();
        check(
            &metadata(packages),
            &Tree::of(&[("deny.toml", CONFIG)]),
            &mut findings,
        );
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn licences_outside_the_list_are_refused() {
        for (license, is_fine) in [
            ("MIT", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-3.0", false),
            ("MIT AND Apache-2.0", false),
            ("nonsense", false),
        ] {
            let found = messages(&[external("x", Some(license), REGISTRY)]);
            assert_eq!(found.is_empty(), is_fine, "{license}: {found:?}");
        }
        assert_eq!(
            messages(&[external("x", None, REGISTRY)]),
            ["Cargo.lock:1: error: x 1.0.0: no licence named, find a package that has one"]
        );
    }

    #[test]
    fn bans_sources_and_ranges() {
        assert_eq!(
            messages(&[
                external("openssl", Some("MIT"), REGISTRY),
                external("y", Some("MIT"), "git+https://example.org/y"),
                member("crates/base", "shoal-base", &[uses("z", "*", None, None)]),
            ]),
            [
                "Cargo.lock:1: error: openssl 1.0.0: banned by deny.toml, see the reason there",
                "Cargo.lock:1: error: y 1.0.0: not from the registry, depend on a released version",
                "crates/base/Cargo.toml:1: error: shoal-base: `z` in any version, \
                 name the one you mean",
            ]
        );
    }

    #[test]
    fn two_versions_are_a_warning() {
        let package = external("x", Some("MIT"), REGISTRY);
        let found = messages(&[package.clone(), package]);
        assert_eq!(
            found,
            ["Cargo.lock:1: warning: x in several versions: 1.0.0, 1.0.0"]
        );
    }

    #[test]
    fn an_unreadable_configuration_is_an_error() {
        let mut findings = Vec::new();
        check(
            &metadata(&[]),
            &Tree::of(&[("deny.toml", "[licenses]\n")]),
            &mut findings,
        );
        assert!(
            findings[0].message.starts_with("unreadable: "),
            "{findings:?}"
        );
    }
}
