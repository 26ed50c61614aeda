//! The brokers that are measured, and how each is started: Moldau as `moldau start`, Apache Kafka as its own scripts start
//! it (1 GiB of heap, G1). What is set on one is set on the other, under the same keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::machine::said;
use crate::results::{KAFKA, MOLDAU, Program};
use crate::serving::{Serving, free_address};

/// What both are given. Files of deleted topics go at once, so that one leg's data do not burden the next.
const SETTINGS: [&str; 2] = ["log.segment.delete.delay.ms=1000", "auto.create.topics.enable=false"];
/// An id for Kafka's storage; any will do.
const CLUSTER: &str = "bW9sZGF1LWJlbmNoLS0tMA";
const LOG4J: &str = "rootLogger.level=WARN
rootLogger.appenderRefs=c
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.target=SYSTEM_ERR
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
";

/// A broker that can be started.
#[derive(Clone, Debug)]
pub enum Contender {
    /// The binary of this checkout.
    Moldau {
        /// Its path.
        program: PathBuf,
    },
    /// Apache Kafka.
    Kafka(Kafka),
}

/// A release of Apache Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// The folder of its jars.
    pub libs: PathBuf,
    /// The heap that it gets, in Java's notation.
    pub heap: String,
    /// Lines of server.properties that come last and win.
    pub settings: Vec<String>,
}

impl Contender {
    /// Its side in the results.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Moldau { .. } => MOLDAU,
            Contender::Kafka(_) => KAFKA,
        }
    }

    /// What is said of it beside its figures.
    pub fn program(&self) -> Program {
        let (version, started) = match self {
            Contender::Moldau { program } => {
                let version = said(&program.to_string_lossy(), &["version"]).unwrap_or_default();
                (
                    version.lines().next().unwrap_or("unknown").to_owned(),
                    "`moldau start`, all defaults".to_owned(),
                )
            }
            Contender::Kafka(kafka) => {
                let mut started = format!("one KRaft node, {}", kafka.java_options().join(" "));
                for setting in &kafka.settings {
                    started.push_str(", ");
                    started.push_str(setting);
                }
                (kafka.version(), started)
            }
        };
        Program { side: self.name().to_owned(), version, started }
    }

    /// Starts it with its data in `dir`, which may be those of an earlier start.
    pub fn start(&self, dir: &Path) -> Result<Serving> {
        self.start_with(dir, &[])
    }

    /// The same with further settings, which win.
    pub fn start_with(&self, dir: &Path, settings: &[&str]) -> Result<Serving> {
        fs::create_dir_all(dir)?;
        match self {
            Contender::Moldau { program } => moldau(program, dir, settings),
            Contender::Kafka(kafka) => kafka.start(dir, settings),
        }
    }
}

fn moldau(program: &Path, dir: &Path, settings: &[&str]) -> Result<Serving> {
    let mut command = Command::new(program);
    command.arg("start").current_dir(dir);
    command.args(["--set", &format!("listeners=PLAINTEXT://{}", free_address()?)]);
    command.args(["--set", &format!("log.dirs={}", dir.join("data").display())]);
    for setting in SETTINGS.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    Serving::start(command, &dir.join("broker.log"))
}

impl Kafka {
    fn class_path(&self) -> String {
        format!("{}/*", self.libs.display())
    }

    fn java_options(&self) -> Vec<String> {
        let heap = [format!("-Xmx{0}", self.heap), format!("-Xms{0}", self.heap)];
        let script = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
                      -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true";
        heap.into_iter().chain(script.split_whitespace().map(str::to_owned)).collect()
    }

    fn version(&self) -> String {
        let java = Command::new("java").arg("-version").output().ok();
        let java = java.map(|out| String::from_utf8_lossy(&out.stderr).into_owned()).unwrap_or_default();
        let release = fs::read_dir(&self.libs).into_iter().flatten().flatten().find_map(|jar| {
            let name = jar.file_name().to_string_lossy().into_owned();
            Some(name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned())
        });
        let release = release.unwrap_or_else(|| "unknown".to_owned());
        format!("Apache Kafka {release} on {}", java.lines().next().unwrap_or("an unknown Java"))
    }

    fn start(&self, dir: &Path, settings: &[&str]) -> Result<Serving> {
        let (properties, log4j) = (dir.join("server.properties"), dir.join("log4j2.properties"));
        let address = free_address()?;
        let mut text = properties_of(dir, &address.to_string(), &free_address()?.to_string());
        for line in SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&settings.join("\n"));
        fs::write(&properties, text)?;
        fs::write(&log4j, LOG4J)?;
        let logging = format!("-Dlog4j2.configurationFile={}", log4j.display());
        if !dir.join("data/meta.properties").exists() {
            let mut format = Command::new("java");
            format.args(["-XX:TieredStopAtLevel=1", &logging, "-cp", &self.class_path()]);
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&properties);
            let out = format.stdin(Stdio::null()).output().context("cannot start java")?;
            let said = String::from_utf8_lossy(&out.stderr);
            ensure!(out.status.success(), "cannot format the storage of Kafka:\n{said}");
        }
        let mut command = Command::new("java");
        command.args(self.java_options()).arg(logging).args(["-cp", &self.class_path(), "kafka.Kafka"]);
        command.arg(&properties).current_dir(dir);
        Serving::start_polled(command, address, &dir.join("broker.log"))
    }
}

fn properties_of(dir: &Path, broker: &str, controller: &str) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{broker}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
",
        dir.display()
    )
}
