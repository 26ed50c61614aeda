//! Debian's package index and packages through apt, without being root and without changing the machine.
//!
//! Uses the lists that the machine has; where it has none, apt fetches them into `.tools/debian`.

use crate::toolbox::{self, fetch, install};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether it answers tells a machine without a network from one whose apt fails.
const MIRROR: &str = "deb.debian.org";

/// Options that make apt use lists of its own.
fn own_lists() -> Result<Vec<String>> {
    let own = toolbox::dir("debian")?;
    fs::create_dir_all(own.join("lists/partial"))?;
    fs::create_dir_all(own.join("cache/archives/partial"))?;
    Ok(vec![
        format!("-oDir::State::lists={}", own.join("lists").display()),
        format!("-oDir::Cache={}", own.join("cache").display()),
    ])
}

/// The options with which apt knows a main index for amd64, and the file of that index.
fn lists() -> Result<(Vec<String>, String)> {
    toolbox::need(&["apt-get"])?;
    if let Some(file) = main_index(&[])? {
        return Ok((Vec::new(), file));
    }
    let options = own_lists()?;
    if main_index(&options)?.is_none() {
        eprintln!("fetching Debian's package index into .tools/debian");
        fetch(Command::new("apt-get").args(&options).arg("update"), MIRROR)?;
    }
    let file = main_index(&options)?.context("apt knows no package index for main amd64")?;
    Ok((options, file))
}

/// The largest index of main for amd64 that apt has.
fn main_index(options: &[String]) -> Result<Option<String>> {
    let format = "$(COMPONENT) $(ARCHITECTURE) $(FILENAME)";
    let ask = ["indextargets", "Created-By: Packages", "--format", format];
    let list = install(Command::new("apt-get").args(options).args(ask))?;
    let files = list.lines().filter_map(|l| l.strip_prefix("main amd64 "));
    let sized = files.filter_map(|f| Some((fs::metadata(f).ok()?.len(), f.to_string())));
    Ok(sized.max().map(|(_, file)| file))
}

/// The text of the index: a stanza per package.
pub fn package_index() -> Result<String> {
    let (_, file) = lists()?;
    install(Command::new("/usr/lib/apt/apt-helper").arg("cat-file").arg(file))
}

/// Fetches `packages` and unpacks them into `dir`.
pub fn unpack(packages: &[&str], dir: &Path) -> Result<()> {
    toolbox::need(&["dpkg-deb"])?;
    let (options, _) = lists()?;
    fetch(Command::new("apt-get").args(&options).arg("download").args(packages).current_dir(dir), MIRROR)?;
    for file in fs::read_dir(dir)? {
        let file = file?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            install(Command::new("dpkg-deb").arg("-x").arg(&file).arg(dir))?;
        }
    }
    Ok(())
}
