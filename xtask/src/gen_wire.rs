//! `cargo xtask gen`: Rust from the schema files of the wire crate.
//!
//! Owns the path from `crates/wire/schema/*.txt` to `crates/wire/src/generated/*.rs` and `tests/walk/generated/*.rs`. The output depends on the schemas
//! and on nothing else, so that `--check` can compare it with what is committed.

mod decode;
mod emit;
mod encode;
mod layout;
mod schema;
mod types;
mod unions;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use schema::File;

/// Puts statements under a condition, or leaves them as they are if the condition is empty.
fn types_if(condition: &str, statements: &str) -> String {
    if condition.is_empty() { statements.to_owned() } else { format!("if {condition} {{\n{statements}}}\n") }
}

/// Reads all schema files under `root`, by module name.
fn schemas(root: &Path) -> Result<Vec<File>> {
    let folder = root.join("crates/wire/schema");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    let parse = |path: &PathBuf| {
        let module =
            path.file_stem().and_then(|stem| stem.to_str()).context("a file name that is not UTF-8")?;
        File::parse(module, &fs::read_to_string(path)?)
    };
    paths.iter().map(parse).collect()
}

/// Everything that should be under `root`, by path, formatted.
fn outputs(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let files = schemas(root)?;
    let folder = Path::new("crates/wire/src/generated");
    let walks = Path::new("crates/wire/tests/walk/generated");
    let mut out = BTreeMap::new();
    out.insert(folder.join("mod.rs"), format(root, &unions::root(&files))?);
    out.insert(walks.join("mod.rs"), format(root, &walk::root(&files))?);
    for file in &files {
        out.insert(walks.join(format!("{}.rs", file.module)), format(root, &walk::module(file))?);
        out.insert(folder.join(format!("{}.rs", file.module)), format(root, &emit::module(file))?);
    }
    Ok(out)
}

fn format(root: &Path, source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt is needed")?;
    child.stdin.take().context("no stdin")?.write_all(source.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refuses the generated code:\n{source}");
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The files of the generated folders that nothing generates.
fn strangers(root: &Path, outputs: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut strangers = Vec::new();
    let folders: std::collections::BTreeSet<&Path> =
        outputs.keys().filter_map(|path| path.parent()).collect();
    for folder in folders {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = folder.join(entry?.file_name());
            if !outputs.contains_key(&path) {
                strangers.push(path);
            }
        }
    }
    Ok(strangers)
}

/// Writes the generated files.
pub fn write(root: &Path) -> Result<()> {
    let outputs = outputs(root)?;
    for stranger in strangers(root, &outputs)? {
        fs::remove_file(root.join(stranger))?;
    }
    for (path, text) in &outputs {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a path without a folder")?)?;
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(path, text)?;
        }
    }
    println!("{} generated files are up to date", outputs.len());
    Ok(())
}

/// Fails if the committed files are not what the schemas say.
pub fn check(root: &Path) -> Result<()> {
    let outputs = outputs(root)?;
    let mut stale = strangers(root, &outputs)?;
    for (path, text) in outputs {
        if fs::read_to_string(root.join(&path)).ok().as_ref() != Some(&text) {
            stale.push(path);
        }
    }
    ensure!(stale.is_empty(), "not what the schemas say; run `cargo xtask gen`: {stale:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_code_is_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&root).unwrap();
    }

    fn refusal(schema: &str) -> String {
        format!("{:#}", File::parse("test", schema).expect_err("a bad schema"))
    }

    #[test]
    fn bad_schemas_are_refused_with_their_line() {
        for (schema, expected) in [
            ("message M 0-1\n  a i32", "test.txt:1: line 2: expected a colon after the name"),
            ("message M 0-1\n  a: int", "test.txt:1: line 2: unknown type 'int'"),
            ("message M 0-1\n   a: i32", "test.txt: line 2: indent by two spaces"),
            (
                "message M 0-1\n  a: i32 1-2",
                "test.txt:1: line 2: versions 1-2 reach beyond what is around them",
            ),
            ("message M 0-1\n  a: i32\n  a: i8", "test.txt:1: line 3: twice a"),
            ("message M 0-1\n  a: i32 optional", "test.txt:1: line 2: unknown attribute 'optional'"),
            ("message M 0-1\n  a: S", "test.txt: M.M.a: no structure S"),
            ("message M 0-1\n  a: i32 tag 0", "test.txt: M.M.a: a tag before the first flexible version"),
            ("message M 0 flexible 0+\n  a: i8 tag 0\n  b: i8 tag 0", "test.txt: M.M.a: tag 0 twice"),
            ("message M 0-1\n  a: i32?", "test.txt: M.M.a: a field of this type is never null"),
            ("message M 0-1\n  a: string = null", "test.txt: M.M.a: the default is null, the field is not"),
            ("message M 0-1\n  a: []S\n    b: i32 1", "test.txt: M.M.a: elements without bytes in version 0"),
            ("request", "test.txt:1: expected versions and perhaps 'flexible N+'"),
            ("fields", "test.txt:1: expected 'api', 'union', 'request', 'response' or 'message'"),
        ] {
            assert_eq!(refusal(schema), expected, "{schema}");
        }
    }
}
