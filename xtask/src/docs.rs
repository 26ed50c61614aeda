//! `cargo xtask docs`: pages that a program writes from the code, so that they cannot say something else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A generated page and the cargo arguments of the program that prints it.
struct Page {
    path: &'static str,
    program: &'static [&'static str],
}

const PAGES: [Page; 2] = [
    Page {
        path: "docs/apis.md",
        program: &["run", "--quiet", "--package", "moldau-broker", "--example", "apis"],
    },
    Page {
        path: "docs/config.md",
        program: &["run", "--quiet", "--package", "moldau-base", "--example", "config_reference"],
    },
];

/// Writes every page.
pub fn write(root: &Path) -> Result<()> {
    for page in &PAGES {
        fs::write(root.join(page.path), print(root, page)?)
            .with_context(|| format!("cannot write {}", page.path))?;
        println!("docs: wrote {}", page.path);
    }
    Ok(())
}

/// Fails when a page is not what its program prints.
pub fn check(root: &Path) -> Result<()> {
    for page in &PAGES {
        let committed = fs::read_to_string(root.join(page.path)).unwrap_or_default();
        if print(root, page)? != committed {
            bail!("{} is not what the code says: run `cargo xtask docs`", page.path);
        }
    }
    println!("docs: {} pages are what the code says", PAGES.len());
    Ok(())
}

fn print(root: &Path, page: &Page) -> Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let out = command.args(page.program).current_dir(root).output().context("cannot start cargo")?;
    if !out.status.success() {
        bail!("cannot print {}:\n{}", page.path, String::from_utf8_lossy(&out.stderr));
    }
    String::from_utf8(out.stdout).with_context(|| format!("{} is not text", page.path))
}
