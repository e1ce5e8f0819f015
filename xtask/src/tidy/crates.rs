//! Which crate may use which. Arrows only go down; a new edge is a visible change of this file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::Finding;
use super::tree::Tree;
use crate::shell::{self, TaskError};

/// The crates of `crates/` by folder, bottom to top, each with those it may use.
const EDGES: [(&str, &[&str]); 17] = [
    ("base", &[]),
    ("wire", &["base"]),
    ("arith", &["base"]),
    ("kernels", &["arith", "base"]),
    ("kernels-cuda", &["arith", "base"]),
    ("model", &["arith", "base"]),
    ("engine", &["arith", "base", "kernels", "kernels-cuda", "model"]),
    ("swarm", &["base", "wire"]),
    ("proof", &["arith", "base", "wire"]),
    ("privacy", &["base", "wire"]),
    ("pay", &["base", "wire"]),
    ("train", &["arith", "base", "engine", "kernels", "model", "proof", "wire"]),
    ("store", &["base", "model", "wire"]),
    ("net", &["base", "wire"]),
    (
        "node",
        &[
            "arith",
            "base",
            "engine",
            "kernels",
            "kernels-cuda",
            "model",
            "net",
            "pay",
            "privacy",
            "proof",
            "store",
            "swarm",
            "train",
            "wire",
        ],
    ),
    ("gateway", &["base"]),
    ("cli", &["base", "engine", "gateway", "kernels", "model", "node", "store", "train"]),
];

/// Libraries that only some crates may use: the prefix of the name, then the folders.
const RESTRICTED: [(&str, &[&str]); 9] = [
    ("anyhow", &["cli"]),
    ("axum", &["gateway"]),
    ("clap", &["cli"]),
    ("iroh", &["net"]),
    ("mdns-sd", &["net"]),
    ("memmap2", &["store"]),
    ("n0-mainline", &["net"]),
    ("spake2", &["node"]),
    ("tokio", &["cli", "gateway", "net", "node", "store"]),
];

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    workspace_root: PathBuf,
}

/// One package, of this workspace or from a registry.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// Absent for packages of this workspace.
    pub(super) source: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
}

/// One line of a package's dependencies.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) req: String,
    /// Absent for normal ones, else `dev` or `build`.
    kind: Option<String>,
    /// Present for packages of this workspace.
    pub(super) path: Option<PathBuf>,
}

impl Metadata {
    pub(super) fn read(root: &Path) -> Result<Self, TaskError> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
        let output = shell::quiet(&mut cargo, "install Rust")?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| TaskError::Refused(format!("cargo metadata: {error}")))
    }

    /// The packages of this workspace with their folders, such as `crates/base`.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Package, String)> {
        let members = self.packages.iter().filter(|package| package.source.is_none());
        members.map(|package| (package, self.folder(&package.manifest_path)))
    }

    fn folder(&self, manifest: &Path) -> String {
        let folder = manifest.parent().unwrap_or(manifest);
        let folder = folder.strip_prefix(&self.workspace_root).unwrap_or(folder);
        folder.to_string_lossy().replace('\\', "/")
    }
}

pub(super) fn check(metadata: &Metadata, tree: &Tree, findings: &mut Vec<Finding>) {
    for (package, folder) in metadata.members() {
        let manifest = Manifest::new(tree, &folder);
        check_manifest(package, &manifest, findings);
        for dependency in &package.dependencies {
            if let Err(message) = check_dependency(&folder, dependency) {
                let line = manifest.line_of(&dependency.name);
                findings.push(Finding::error(&manifest.path, line, message));
            }
        }
    }
}

/// The text of a `Cargo.toml`, to say where a finding is.
struct Manifest<'a> {
    path: String,
    text: &'a str,
}

impl<'a> Manifest<'a> {
    fn new(tree: &'a Tree, folder: &str) -> Self {
        let path = format!("{folder}/Cargo.toml");
        let text = tree.file(&path).and_then(|file| file.text()).unwrap_or_default();
        Self { path, text }
    }

    /// The line that starts with a word; the first line when there is none.
    fn line_of(&self, word: &str) -> usize {
        let position = self.text.lines().position(|line| line.starts_with(word));
        position.map_or(1, |index| index + 1)
    }
}

fn check_manifest(package: &Package, manifest: &Manifest<'_>, findings: &mut Vec<Finding>) {
    let folder = manifest.path.trim_end_matches("/Cargo.toml");
    let mut error = |line, message: String| {
        findings.push(Finding::error(&manifest.path, line, message));
    };
    if let Some(name) = folder.strip_prefix("crates/").or(folder.strip_prefix("testing/")) {
        let expected = format!("shoal-{name}");
        if package.name != expected {
            let message = format!("package `{}` in {folder}, call it `{expected}`", package.name);
            error(manifest.line_of("name"), message);
        }
    }
    let unknown = folder.strip_prefix("crates/").filter(|name| allowed(name).is_none());
    if unknown.is_some() {
        let message = "a crate without a layer, add it to EDGES in xtask/src/tidy/crates.rs";
        error(1, message.to_owned());
    }
    if !manifest.text.contains("[lints]\nworkspace = true") {
        let message = "the lints of the workspace do not apply, add `[lints] workspace = true`";
        error(1, message.to_owned());
    }
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, allowed)| *allowed)
}

fn check_dependency(folder: &str, dependency: &Dependency) -> Result<(), String> {
    // Test crates and tasks may use everything.
    let Some(name) = folder.strip_prefix("crates/") else {
        return Ok(());
    };
    let used = &dependency.name;
    if dependency.path.is_none() {
        let restricted = RESTRICTED.iter().find(|(prefix, _)| used.starts_with(prefix));
        return match restricted {
            Some((_, folders)) if !folders.contains(&name) => {
                let folders = folders.join(", ");
                Err(format!("`{used}` in `{name}`, only for {folders}; move the code there"))
            }
            _ => Ok(()),
        };
    }
    let path = dependency.path.as_deref().unwrap_or(Path::new(""));
    let is_testing = path.parent().is_some_and(|parent| parent.ends_with("testing"));
    if is_testing && dependency.kind.as_deref() == Some("dev") {
        return Ok(());
    }
    if is_testing {
        return Err(format!("`{used}` does not ship, make it a dev-dependency"));
    }
    let target = used.trim_start_matches("shoal-");
    match allowed(name) {
        Some(allowed) if !allowed.contains(&target) => {
            Err(format!("`{name}` must not use `{target}`, see the layers in ARCHITECTURE.md"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Metadata as `cargo` would print it.

    use super::Metadata;
    use serde_json::{Value, json};

    pub(in crate::tidy) fn metadata(packages: &[Value]) -> Metadata {
        let value = json!({ "packages": packages, "workspace_root": "/r" });
        serde_json::from_value(value).expect("the shape of cargo metadata")
    }

    pub(in crate::tidy) fn member(folder: &str, name: &str, dependencies: &[Value]) -> Value {
        json!({
            "name": name, "version": "0.1.0", "license": "MIT", "source": null,
            "dependencies": dependencies, "manifest_path": format!("/r/{folder}/Cargo.toml"),
        })
    }

    pub(in crate::tidy) fn external(name: &str, license: Option<&str>, source: &str) -> Value {
        json!({
            "name": name, "version": "1.0.0", "license": license, "source": source,
            "dependencies": [], "manifest_path": format!("/c/{name}/Cargo.toml"),
        })
    }

    pub(in crate::tidy) fn uses(
        name: &str,
        req: &str,
        kind: Option<&str>,
        path: Option<&str>,
    ) -> Value {
        json!({ "name": name, "req": req, "kind": kind, "path": path })
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{member, metadata, uses};
    use super::{EDGES, check};
    use crate::tidy::tree::Tree;
    use serde_json::Value;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn messages(folder: &str, name: &str, dependencies: &[Value]) -> Vec<String> {
        let manifest = format!("{LINTS}shoal-wire.workspace = true\n");
        let tree = Tree::of(&[(&format!("{folder}/Cargo.toml"), &manifest)]);
        let mut findings = Vec::new();
        check(&metadata(&[member(folder, name, dependencies)]), &tree, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn edges_outside_the_list_are_refused() {
        let up = uses("shoal-wire", "*", None, Some("/r/crates/wire"));
        let down = uses("shoal-base", "*", None, Some("/r/crates/base"));
        assert_eq!(
            messages("crates/arith", "shoal-arith", &[down, up]),
            ["crates/arith/Cargo.toml:3: error: `arith` must not use `wire`, \
              see the layers in ARCHITECTURE.md"]
        );
    }

    #[test]
    fn test_crates_are_free_but_never_ship() {
        let kit = |kind| uses("shoal-testkit", "*", kind, Some("/r/testing/testkit"));
        assert_eq!(messages("crates/base", "shoal-base", &[kit(Some("dev"))]), [""; 0]);
        assert_eq!(
            messages("crates/base", "shoal-base", &[kit(None)]),
            ["crates/base/Cargo.toml:1: error: `shoal-testkit` does not ship, \
              make it a dev-dependency"]
        );
        let node = uses("shoal-node", "*", None, Some("/r/crates/node"));
        let tokio = uses("tokio", "^1", None, None);
        assert_eq!(messages("testing/sim", "shoal-sim", &[node, tokio]), [""; 0]);
    }

    #[test]
    fn libraries_stay_where_they_belong() {
        let iroh = uses("iroh-blobs", "^1", None, None);
        assert_eq!(messages("crates/net", "shoal-net", std::slice::from_ref(&iroh)), [""; 0]);
        assert_eq!(
            messages("crates/node", "shoal-node", &[iroh]),
            ["crates/node/Cargo.toml:1: error: `iroh-blobs` in `node`, only for net; \
              move the code there"]
        );
    }

    #[test]
    fn packages_have_their_name_their_layer_and_the_lints() {
        assert_eq!(messages("crates/base", "base", &[]).len(), 1);
        assert_eq!(messages("crates/new", "shoal-new", &[]).len(), 1);
        let mut findings = Vec::new();
        let tree = Tree::of(&[("crates/base/Cargo.toml", "[package]\n")]);
        check(&metadata(&[member("crates/base", "shoal-base", &[])]), &tree, &mut findings);
        assert!(findings[0].message.contains("lints"), "{findings:?}");
    }

    #[test]
    fn the_list_itself_only_goes_down() {
        for (position, (name, allowed)) in EDGES.iter().enumerate() {
            for used in *allowed {
                let below = EDGES[..position].iter().any(|(other, _)| other == used);
                assert!(below, "{name} -> {used}");
            }
        }
    }
}
