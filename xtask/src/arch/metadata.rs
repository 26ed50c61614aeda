//! What `cargo metadata` says about dependencies: names and arrows, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// For what one package needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Normal,
    Build,
    Dev,
}

/// The packages of the workspace and of everything below, by name; `NAME@VERSION` where several versions are in use.
#[derive(Default)]
pub struct Metadata {
    /// Members of the workspace as `arch.toml` names them: without the prefix `moldau-`.
    pub members: BTreeSet<String>,
    /// Every arrow as cargo resolved it, by name of the package that it leaves.
    pub arrows: BTreeMap<String, BTreeSet<(String, Kind)>>,
}

impl Metadata {
    /// Asks cargo.
    pub fn of(root: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root);
        let out = command.output().context("cargo metadata")?;
        if !out.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Self::parse(&out.stdout)
    }

    /// Reads format version 1.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(json).context("cargo metadata")?;
        let mut names = BTreeMap::new();
        let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
        for package in list(&value["packages"]) {
            *versions.entry(text(&package["name"])).or_default() += 1;
        }
        for package in list(&value["packages"]) {
            let name = text(&package["name"]);
            let name = match versions.get(name) {
                Some(2..) => format!("{name}@{}", text(&package["version"])),
                _ => short(name).to_owned(),
            };
            names.insert(text(&package["id"]), name);
        }
        let mut metadata = Self::default();
        for id in list(&value["workspace_members"]) {
            metadata.members.extend(names.get(text(id)).cloned());
        }
        for node in list(&value["resolve"]["nodes"]) {
            let Some(from) = names.get(text(&node["id"])) else { continue };
            let arrows = metadata.arrows.entry(from.clone()).or_default();
            for dependency in list(&node["deps"]) {
                let Some(to) = names.get(text(&dependency["pkg"])) else { continue };
                arrows.extend(list(&dependency["dep_kinds"]).iter().map(|kind| (to.clone(), kind_of(kind))));
            }
        }
        Ok(metadata)
    }

    /// Where the arrows of `from` go that have one of `kinds`.
    pub fn uses(&self, from: &str, kinds: &[Kind]) -> BTreeSet<&str> {
        let arrows = self.arrows.get(from).into_iter().flatten();
        arrows.filter(|(_, kind)| kinds.contains(kind)).map(|(to, _)| to.as_str()).collect()
    }
}

/// The name of a package without its version.
pub fn plain(package: &str) -> &str {
    package.split_once('@').map_or(package, |(name, _)| name)
}

/// A crate's name in `arch.toml`.
fn short(package: &str) -> &str {
    package.strip_prefix("moldau-").unwrap_or(package)
}

fn kind_of(value: &Value) -> Kind {
    match value["kind"].as_str() {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
