//! A real Apache Kafka from Maven Central: the oracle of the interop tests and the peer of the benchmarks.
//!
//! Owns fetching its jars into `.tools/kafka/VERSION`, and one KRaft node (broker and controller) on 127.0.0.1.
//! The environment variable `XTASK_KAFKA_LIBS` names a folder that already has the jars.

use crate::toolbox;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The version that Moldau is held against.
pub const VERSION: &str = "4.3.1";

const LOG4J: &str = "rootLogger.level=LEVEL
rootLogger.appenderRefs=c
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.target=SYSTEM_ERR
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
";

/// The jars of one Kafka release, and how to run a class of them.
#[derive(Clone)]
pub struct Kafka {
    libs: PathBuf,
    broker_log4j: PathBuf,
    tools_log4j: PathBuf,
}

impl Kafka {
    /// Fetches the release unless it is already there.
    pub fn obtain() -> Result<Self> {
        toolbox::need(&["java"])?;
        let dir = toolbox::dir(&format!("kafka/{VERSION}"))?;
        let libs = match std::env::var_os("XTASK_KAFKA_LIBS") {
            Some(libs) => PathBuf::from(libs),
            None => toolbox::copy_jars(&dir, &artifacts())?,
        };
        let (broker_log4j, tools_log4j) = (dir.join("broker.properties"), dir.join("tools.properties"));
        fs::write(&broker_log4j, LOG4J.replace("LEVEL", "INFO"))?;
        fs::write(&tools_log4j, LOG4J.replace("LEVEL", "WARN"))?;
        Ok(Self { libs, broker_log4j, tools_log4j })
    }

    /// The class path of every jar of the release.
    pub fn class_path(&self) -> String {
        format!("{}/*", self.libs.display())
    }

    /// The folder of the jars.
    pub fn libs(&self) -> &Path {
        &self.libs
    }

    /// A command that runs `class` of the release as a tool.
    pub fn tool(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(self.tools_logging()).args(["-cp", &self.class_path(), class]);
        command
    }

    /// The JVM option that makes a tool log its warnings to standard error.
    pub fn tools_logging(&self) -> String {
        format!("-Dlog4j2.configurationFile={}", self.tools_log4j.display())
    }

    /// A command that runs a node; the path of its server.properties is still to be added.
    pub fn broker(&self, heap: &str) -> Command {
        let mut command = Command::new("java");
        command.args([&format!("-Xmx{heap}"), &format!("-Xms{heap}")]);
        command.args(["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.broker_log4j.display()));
        command.args(["-cp", &self.class_path(), "kafka.Kafka"]);
        command
    }
}

fn artifacts() -> Vec<(&'static str, &'static str, &'static str, Option<&'static str>)> {
    let mut list = Vec::new();
    for artifact in ["kafka_2.13", "kafka-tools", "kafka-shell", "connect-runtime", "kafka-streams"] {
        list.push(("org.apache.kafka", artifact, VERSION, None));
    }
    for artifact in ["log4j-slf4j-impl", "log4j-core", "log4j-1.2-api"] {
        list.push(("org.apache.logging.log4j", artifact, "2.25.5", None));
    }
    list
}

/// One node of the release, broker and controller in one process. Ended when dropped.
pub struct Node {
    kafka: Kafka,
    dir: PathBuf,
    port: u16,
    heap: String,
    child: Option<Child>,
}

impl Node {
    /// Formats `dir` and starts a node there; `settings` are lines of server.properties that come last and win.
    pub fn start(
        kafka: &Kafka,
        dir: &Path,
        ports: (u16, u16),
        heap: &str,
        settings: &[String],
    ) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let file = dir.join("server.properties");
        fs::write(&file, properties(dir, ports, settings))?;
        let mut format = kafka.tool("kafka.tools.StorageTool");
        format.args(["format", "-t", "bW9sZGF1LWludGVyb3AtMA", "-c"]).arg(&file);
        toolbox::install(&mut format).context("cannot format the storage of a real Kafka")?;
        let mut node =
            Self { kafka: kafka.clone(), dir: dir.into(), port: ports.0, heap: heap.into(), child: None };
        node.restart()?;
        Ok(node)
    }

    /// Starts the process on the data that is there and waits until it accepts connections.
    pub fn restart(&mut self) -> Result<()> {
        let log = self.dir.join("broker.log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = self.kafka.broker(&self.heap);
        command.arg(self.dir.join("server.properties"));
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let started = fs::read_to_string(&log)?.matches("Kafka Server started").count();
        self.child = Some(command.spawn().context("cannot start java")?);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let text = fs::read_to_string(&log)?;
            let up = text.matches("Kafka Server started").count() > started;
            if up && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                bail!("Kafka ended at once ({status}):\n{}", toolbox::last_lines(&text, 10));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("Kafka is not up after 60 s; see {}", log.display())
    }

    /// Ends the process with SIGKILL; its data stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The folder of the partitions.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn properties(dir: &Path, ports: (u16, u16), settings: &[String]) -> String {
    let (broker, controller) = ports;
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
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
    );
    for line in settings {
        text.push_str(line);
        text.push('\n');
    }
    text
}
