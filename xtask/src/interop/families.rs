//! The client families: their pinned versions, how each is installed into `.tools/`, and the program that drives it.

use super::client::{Client, Driver};
use super::kcat::Kcat;
use crate::toolbox::{self, copy_jars, fetch, install, need, once};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Every family, in the order of the table's columns.
pub const NAMES: [&str; 11] = [
    "java-4.3",
    "java-3.9",
    "java-2.8",
    "confluent",
    "kcat",
    "franz-go",
    "sarama",
    "kafka-go",
    "kafkajs",
    "aiokafka",
    "kafka-py",
];

/// A program and the words before the broker's address.
#[derive(Clone)]
pub struct Launch {
    program: PathBuf,
    before: Vec<String>,
    replicas: u32,
}

impl Launch {
    /// The command `PROGRAM ... BOOTSTRAP CASE`.
    pub fn command(&self, bootstrap: &str, case: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).arg(bootstrap).arg(case);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
        command.env("REPLICAS", self.replicas.to_string());
        command
    }
}

/// Installs and names the family; its topics have so many replicas.
pub fn prepare(name: &'static str, replicas: u32) -> Result<Client> {
    let program = |launch| Driver::Program(Launch { replicas, ..launch }, Mutex::new(None));
    let driver = match name {
        "java-4.3" => java("4.3.1").map(program),
        "java-3.9" => java("3.9.2").map(program),
        "java-2.8" => java("2.8.2").map(program),
        "kcat" => Kcat::obtain().map(Driver::Kcat),
        "confluent" => python("confluent").map(program),
        "aiokafka" => python("aiokafka").map(program),
        "kafka-py" => python("kafka-python").map(program),
        "kafkajs" => node().map(program),
        _ => go(name).map(program),
    };
    let driver = match driver {
        Ok(driver) => driver,
        Err(why) => Driver::Missing(toolbox::missing(why).with_context(|| format!("cannot install {name}"))?),
    };
    Ok(Client { name, driver })
}

fn sources(folder: &str, extensions: &[&str]) -> Result<(PathBuf, String)> {
    let dir = crate::root().join("interop").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| extensions.iter().any(|e| p.extension().is_some_and(|x| x == *e)))
        .collect();
    files.sort();
    let mut text = String::new();
    for file in &files {
        text.push_str(&fs::read_to_string(file)?);
    }
    Ok((dir, text))
}

fn java(version: &str) -> Result<Launch> {
    need(&["java", "javac", "mvn"])?;
    let dir = toolbox::dir(&format!("java/{version}"))?;
    let jars =
        [("org.apache.kafka", "kafka-clients", version, None), ("org.slf4j", "slf4j-simple", "1.7.36", None)];
    let libs = copy_jars(&dir, &jars)?;
    let classes = compile_java("java", &dir, &format!("{}/*", libs.display()))?;
    let mut before = small_jvm();
    before.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into());
    before.push("-cp".into());
    before.push(format!("{}:{}/*", classes.display(), libs.display()));
    before.push("Main".into());
    Ok(Launch { program: "java".into(), before, replicas: 1 })
}

/// Options of a JVM that lives for seconds.
pub fn small_jvm() -> Vec<String> {
    ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"].map(String::from).to_vec()
}

/// Compiles `interop/FOLDER/*.java` into `DIR/classes`.
pub fn compile_java(folder: &str, dir: &Path, class_path: &str) -> Result<PathBuf> {
    let (from, text) = sources(folder, &["java"])?;
    let classes = dir.join("classes");
    fs::create_dir_all(&classes)?;
    once(&classes, &text, || {
        let mut javac = Command::new("javac");
        javac.args(["-nowarn", "-cp", class_path, "-d"]).arg(&classes);
        for file in fs::read_dir(&from)? {
            let file = file?.path();
            if file.extension().is_some_and(|e| e == "java") {
                javac.arg(file);
            }
        }
        install(&mut javac).map(drop)
    })?;
    Ok(classes)
}

fn python(family: &str) -> Result<Launch> {
    need(&["python3"])?;
    let dir = toolbox::dir("python")?;
    let program = crate::root().join("interop/python");
    let wanted = program.join("requirements.txt");
    let interpreter = dir.join("bin/python");
    once(&dir, &fs::read_to_string(&wanted)?, || {
        eprintln!("installing Python clients into {}", dir.display());
        toolbox::python_environment(&dir)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        fetch(Command::new(&interpreter).args(pip).arg(&wanted), toolbox::PYPI)
    })?;
    let main = program.join("main.py").display().to_string();
    Ok(Launch { program: interpreter, before: vec![main, family.into()], replicas: 1 })
}

fn go(family: &str) -> Result<Launch> {
    need(&["go"])?;
    let dir = toolbox::dir("go")?;
    let (from, text) = sources("go", &["go", "mod", "sum"])?;
    let program = dir.join("interop");
    once(&dir, &text, || {
        eprintln!("building the Go clients into {}", dir.display());
        let mut build = Command::new("go");
        build.args(["build", "-mod=readonly", "-o"]).arg(&program).arg(".").current_dir(&from);
        fetch(&mut build, "proxy.golang.org")
    })?;
    Ok(Launch { program, before: vec![family.into()], replicas: 1 })
}

fn node() -> Result<Launch> {
    need(&["node", "npm"])?;
    let dir = toolbox::dir("js")?;
    let (from, text) = sources("js", &["js", "json"])?;
    once(&dir, &text, || {
        eprintln!("installing kafkajs into {}", dir.display());
        for file in fs::read_dir(&from)? {
            let file = file?.path();
            if let Some(name) = file.file_name().filter(|_| file.is_file()) {
                fs::copy(&file, dir.join(name))?;
            }
        }
        let ci = ["ci", "--no-audit", "--no-fund"];
        fetch(Command::new("npm").args(ci).current_dir(&dir), "registry.npmjs.org")
    })?;
    Ok(Launch {
        program: "node".into(),
        before: vec![dir.join("main.js").display().to_string()],
        replicas: 1,
    })
}
