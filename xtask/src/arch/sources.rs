//! What the sources and `clippy.toml` of the crates must say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Arch;

/// Everything that is wrong in files, one line each.
pub fn breaches(arch: &Arch, root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for core in arch.cores() {
        let folder = root.join("crates").join(core);
        found.extend(missing_bans(
            arch,
            core,
            &fs::read_to_string(folder.join("clippy.toml")).unwrap_or_default(),
        ));
        for file in rust_files(&folder.join("src"))? {
            found.extend(outer_world(arch, &shown(root, &file), &read(&file)?));
        }
    }
    for place in ["crates", "xtask", "fuzz/fuzz_targets"] {
        for file in rust_files(&root.join(place))? {
            found.extend(unsafe_allowed(arch, &shown(root, &file), &read(&file)?));
        }
    }
    let absent = arch.unsafe_code.files.iter().filter(|file| !root.join(file).exists());
    found.extend(absent.map(|file| format!("arch.toml allows unsafe code in {file}, which does not exist")));
    Ok(found)
}

/// Bans of `arch.toml` that a core's `clippy.toml` lacks.
pub fn missing_bans(arch: &Arch, core: &str, clippy: &str) -> Vec<String> {
    let all = arch.cores.methods.iter().chain(&arch.cores.types);
    let missing = all.filter(|ban| !clippy.contains(&format!("path = \"{ban}\"")));
    missing.map(|ban| format!("crates/{core}/clippy.toml does not ban {ban}")).collect()
}

/// Lines of a core that name a module of the outer world.
pub fn outer_world(arch: &Arch, file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        for module in arch.cores.modules.iter().filter(|module| code.contains(module.as_str())) {
            found.push(format!("{file}:{number} names {module}: cores do no I/O of their own"));
        }
    }
    found
}

/// Whether `text` allows `unsafe` although `arch.toml` does not list the file.
pub fn unsafe_allowed(arch: &Arch, file: &str, text: &str) -> Option<String> {
    // Put together here, so that this file is not one of those it looks for.
    let allows = ["allow", "expect"].iter().any(|word| text.contains(&format!("{word}(unsafe_code")));
    let listed = arch.unsafe_code.files.contains(file);
    (allows && !listed).then(|| format!("{file} allows unsafe code; only files listed in arch.toml may"))
}

/// All `.rs` files below `folder`, sorted.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn shown(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned()
}
