//! What of a grown corpus is committed: the smallest inputs that reach most, few and small enough for a repository.
//!
//! Files in `fuzz/seeds/TARGET` with a name of their own (`client-…` of a real client, `bug-…` of something that was mended) are never
//! touched; the others bear the hash that libFuzzer gave them and are chosen anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::program;

/// Most inputs of a target, most bytes of all of them, and of one.
const COUNT: usize = 60;
const BYTES: u64 = 24 << 10;
const EACH: u64 = 2 << 10;

/// Chooses anew for one target.
pub fn smallest(root: &Path, target: &str) -> Result<()> {
    let seeds = root.join("fuzz/seeds").join(target);
    let corpus = root.join("fuzz/corpus").join(target);
    let merged = root.join("fuzz/corpus-work").join(target);
    for folder in [&seeds, &corpus] {
        fs::create_dir_all(folder)?;
    }
    // What an interrupted run left there must not count.
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    let mut merge = Command::new(program(root, target));
    merge.args(["-merge=1", "-rss_limit_mb=4096", "-timeout=300"]).arg(format!("-max_len={EACH}"));
    merge.arg(&merged).arg(&corpus).arg(&seeds).stdout(Stdio::null()).stderr(Stdio::null());
    if !merge.status().context("cannot start the target")?.success() {
        bail!("{target}: the corpus cannot be merged");
    }
    for (path, _) in files(&seeds)?.into_iter().filter(|(path, _)| !is_named(path)) {
        fs::remove_file(path)?;
    }
    let (mut count, mut bytes) = (0, 0);
    let mut found = files(&merged)?;
    found.sort_by_key(|(path, len)| (*len, path.clone()));
    // Evenly from the short to the long: only the shortest would be only the shallowest.
    let step = found.len().div_ceil(COUNT).max(1);
    for (path, len) in found.into_iter().rev().step_by(step) {
        if bytes + len > BYTES {
            continue;
        }
        let name = path.file_name().context("a file has a name")?;
        fs::copy(&path, seeds.join(name))?;
        (count, bytes) = (count + 1, bytes + len);
    }
    println!("fuzz: {target}: kept {count} inputs of {bytes} bytes");
    Ok(())
}

fn is_named(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains('-'))
}

fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        found.push((entry.path(), entry.metadata()?.len()));
    }
    Ok(found)
}
