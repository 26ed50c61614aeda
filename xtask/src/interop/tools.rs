//! The command-line tools of a real Kafka against the broker: what an operator types, and what must come back.
//!
//! One JVM runs all of them (`interop/tools/Tools.java`). The checks build on one another: a topic is made, filled, read
//! and taken down.

use super::client::{Outcome, Verdict};
use super::families::{compile_java, small_jvm};
use super::process::{self, Line, Process};
use crate::kafka::Kafka;
use crate::toolbox;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a tool said.
#[derive(Deserialize)]
struct Said {
    exit: i32,
    out: String,
    err: String,
}

/// The tools, a topic for them, and the broker's data.
pub struct Tools {
    bootstrap: String,
    topic: String,
    data: Option<PathBuf>,
    dir: PathBuf,
    kafka: Kafka,
    launch: Vec<String>,
    process: RefCell<Option<Process>>,
    patience: Duration,
}

type Check = fn(&Tools) -> Result<String>;

/// Every check, in the order in which they must run.
const CHECKS: [(&str, Check); 21] = [
    ("broker-api-versions", Tools::api_versions),
    ("topics --create --describe", Tools::create),
    ("topics --alter --list", Tools::alter),
    ("console-producer", Tools::console_producer),
    ("console-consumer", Tools::console_consumer),
    ("console-consumer --group", Tools::console_group),
    ("get-offsets", Tools::get_offsets),
    ("configs topics", Tools::topic_configs),
    ("configs brokers", Tools::broker_configs),
    ("consumer-groups --describe", Tools::describe_group),
    ("consumer-groups --reset-offsets", Tools::reset_offsets),
    ("consumer-groups --delete-offsets", Tools::delete_offsets),
    ("producer-perf-test", Tools::producer_perf),
    ("consumer-perf-test", Tools::consumer_perf),
    ("verifiable-producer, -consumer", Tools::verifiable),
    ("log-dirs", Tools::log_dirs),
    ("dump-log", Tools::dump_log),
    ("dump-log --offsets-decoder", Tools::dump_offsets),
    ("dump-log --cluster-metadata", Tools::dump_metadata),
    ("delete-records", Tools::delete_records),
    ("consumer-groups, topics --delete", Tools::delete),
];

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// Records that the console producer writes.
const LINES: usize = 120;

/// Runs every check that `wanted` takes; a machine without Java skips them all.
pub fn run(
    bootstrap: &str,
    tag: &str,
    data: Option<PathBuf>,
    dir: &Path,
    patience: Duration,
    mut done: impl FnMut(&str, Outcome),
) -> Result<()> {
    let tools = match Tools::prepare(bootstrap, tag, data, dir, patience) {
        Ok(tools) => tools,
        Err(why) => {
            let why = toolbox::missing(why).context("cannot install the tools of a real Kafka")?;
            for (name, _) in CHECKS {
                done(name, Outcome::new(Verdict::Skipped, why.as_str()));
            }
            return Ok(());
        }
    };
    for (name, check) in CHECKS {
        let began = Instant::now();
        let outcome = match check(&tools) {
            Ok(detail) if detail.is_empty() => Outcome::new(Verdict::Absent, "needs the broker's files"),
            Ok(detail) => Outcome::new(Verdict::Ok, detail),
            Err(why) => {
                let text = format!("{why:#}");
                let mut lines = text.lines();
                let detail = lines.next().unwrap_or_default().to_string();
                let tail: Vec<String> = lines.map(|l| l.chars().take(300).collect()).collect();
                Outcome { tail: tail[tail.len().saturating_sub(25)..].to_vec(), ..Outcome::fail(detail) }
            }
        };
        done(name, outcome.since(began));
    }
    Ok(())
}

impl Tools {
    fn prepare(
        bootstrap: &str,
        tag: &str,
        data: Option<PathBuf>,
        dir: &Path,
        patience: Duration,
    ) -> Result<Self> {
        toolbox::need(&["java", "javac"])?;
        let kafka = Kafka::obtain()?;
        let classes = compile_java("tools", &toolbox::dir("java/tools")?, &kafka.class_path())?;
        let mut launch = small_jvm();
        launch.push(kafka.tools_logging());
        launch.push("-cp".into());
        launch.push(format!("{}:{}", classes.display(), kafka.class_path()));
        launch.push("Tools".into());
        let (bootstrap, topic, dir) = (bootstrap.to_string(), format!("{tag}-tools"), dir.to_path_buf());
        Ok(Self { bootstrap, topic, data, dir, kafka, launch, process: RefCell::new(None), patience })
    }

    /// Runs `class` with these arguments and this standard input, whatever its exit status.
    fn tool(&self, class: &str, input: &str, args: &[&str]) -> Result<Said> {
        let mut slot = self.process.borrow_mut();
        let mut process = match slot.take() {
            Some(process) => process,
            None => {
                let mut command = Command::new("java");
                command.args(&self.launch);
                Process::spawn(command)?
            }
        };
        let escape = |text: &str| text.replace('\n', "\\n").replace('\t', "\\t");
        let mut words = vec![class.to_string(), escape(input)];
        words.extend(args.iter().map(|a| escape(a)));
        process.write(&words.join("\t"))?;
        match process.line(Instant::now() + self.patience) {
            Line::Text(line) => {
                *slot = Some(process);
                serde_json::from_str(&line).with_context(|| format!("cannot read `{line}`"))
            }
            Line::Late => {
                process.kill();
                bail!("{class} {}: no end after {} s", args.join(" "), self.patience.as_secs())
            }
            Line::Closed => bail!("the JVM ended:\n{}", process.tail().join("\n")),
        }
    }

    /// Runs a tool that must succeed; its standard output.
    fn ok(&self, class: &str, input: &str, args: &[&str]) -> Result<String> {
        let said = self.tool(class, input, args)?;
        let name = class.rsplit('.').next().unwrap_or(class);
        let complaint = said.err.lines().any(|l| l.contains("ERROR"));
        let text = || format!("{}\n{}", said.out, said.err);
        ensure!(said.exit == 0, "{name} {}: exit status {}\n{}", args.join(" "), said.exit, text());
        ensure!(!complaint, "{name} {}: an error was logged\n{}", args.join(" "), text());
        Ok(said.out)
    }

    /// Runs a tool with `--bootstrap-server` before its other arguments.
    fn at(&self, class: &str, input: &str, args: &[&str]) -> Result<String> {
        let mut all = vec!["--bootstrap-server", &self.bootstrap];
        all.extend(args);
        self.ok(class, input, &all)
    }

    fn group(&self) -> String {
        format!("{}-group", self.topic)
    }

    fn api_versions(&self) -> Result<String> {
        let out = self.at("org.apache.kafka.tools.BrokerApiVersionsCommand", "", &[])?;
        let apis = out.lines().filter(|l| l.contains("usable:")).count();
        let unsupported = out.lines().filter(|l| l.contains("UNSUPPORTED")).count();
        for api in
            ["Produce(0): 0 to 13", "Fetch(1): 4 to 18", "Metadata(3): 0 to 13", "ApiVersions(18): 0 to 4"]
        {
            ensure!(out.contains(api), "`{api}` is not advertised\n{out}");
        }
        Ok(format!("{apis} APIs usable, {unsupported} unsupported"))
    }

    fn create(&self) -> Result<String> {
        let args =
            ["--create", "--topic", &self.topic, "--partitions", "3", "--config", "retention.ms=86400000"];
        let out = self.at(TOPICS, "", &args)?;
        ensure!(out.contains("Created topic"), "not created\n{out}");
        std::thread::sleep(Duration::from_millis(300));
        let out = self.at(TOPICS, "", &["--describe", "--topic", &self.topic])?;
        ensure!(
            out.contains("PartitionCount: 3") && out.contains("retention.ms=86400000"),
            "described as\n{out}"
        );
        ensure!(out.matches("Leader: ").count() == 3 && !out.contains("Leader: none"), "described as\n{out}");
        let again = self.tool(
            TOPICS,
            "",
            &["--bootstrap-server", &self.bootstrap, "--create", "--topic", &self.topic],
        )?;
        ensure!(again.exit != 0 && again.out.contains("already exists"), "creating it again: {}", again.out);
        Ok("3 partitions, a config, refused the second time".into())
    }

    fn alter(&self) -> Result<String> {
        self.at(TOPICS, "", &["--alter", "--topic", &self.topic, "--partitions", "4"])?;
        std::thread::sleep(Duration::from_millis(300));
        let out = self.at(TOPICS, "", &["--describe", "--topic", &self.topic])?;
        ensure!(out.contains("PartitionCount: 4"), "described as\n{out}");
        let out = self.at(TOPICS, "", &["--list"])?;
        ensure!(out.lines().any(|l| l == self.topic), "not listed\n{out}");
        for question in
            ["--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"]
        {
            let out = self.at(TOPICS, "", &["--describe", "--topic", &self.topic, question])?;
            ensure!(out.trim().is_empty(), "{question}:\n{out}");
        }
        Ok("4 partitions, none unavailable".into())
    }

    fn lines() -> Vec<String> {
        (0..LINES).map(|i| format!("key-{i}:value-{i}")).collect()
    }

    fn console_producer(&self) -> Result<String> {
        let input = Self::lines().join("\n") + "\n";
        let args = ["--topic", &self.topic, "--reader-property", "parse.key=true", "--reader-property"];
        let args = [&args[..], &["key.separator=:", "--compression-codec", "zstd"]].concat();
        self.at("org.apache.kafka.tools.ConsoleProducer", &input, &args)?;
        Ok(format!("{LINES} lines"))
    }

    fn console(&self, more: &[&str]) -> Result<Vec<String>> {
        let count = LINES.to_string();
        let args =
            ["--topic", &self.topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "20000"];
        let print = ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=:"];
        let out = self.at(CONSUMER, "", &[&args[..], &print[..], more].concat())?;
        let mut lines: Vec<String> = out.lines().map(String::from).collect();
        lines.sort();
        Ok(lines)
    }

    fn console_consumer(&self) -> Result<String> {
        let mut want = Self::lines();
        want.sort();
        let got = self.console(&[])?;
        ensure!(
            got == want,
            "{} lines came back, not the {} that were written\n{}",
            got.len(),
            want.len(),
            got.join("\n")
        );
        Ok(format!("{LINES} lines"))
    }

    fn console_group(&self) -> Result<String> {
        let got = self.console(&["--group", &self.group()])?;
        ensure!(got.len() == LINES, "{} lines of {LINES}", got.len());
        Ok(format!("{LINES} lines in a group"))
    }

    /// The sum of `TOPIC:PARTITION:OFFSET` lines.
    fn sum(&self, time: &str) -> Result<i64> {
        let out = self.at(OFFSETS, "", &["--topic", &self.topic, "--time", time])?;
        let mut sum = 0;
        for line in out.lines() {
            let number = line.rsplit(':').next().unwrap_or_default();
            sum += number.parse::<i64>().with_context(|| format!("cannot read `{line}`"))?;
        }
        Ok(sum)
    }

    fn get_offsets(&self) -> Result<String> {
        let (earliest, latest) = (self.sum("earliest")?, self.sum("latest")?);
        ensure!(
            (earliest, latest) == (0, LINES as i64),
            "earliest {earliest}, latest {latest}, not 0 and {LINES}"
        );
        let newest = self.sum("max-timestamp")?;
        ensure!((0..latest).contains(&newest), "the newest timestamps are at {newest} in sum");
        Ok("earliest, latest, max-timestamp".into())
    }

    fn topic_configs(&self) -> Result<String> {
        let entity = ["--entity-type", "topics", "--entity-name", &self.topic];
        self.at(
            CONFIGS,
            "",
            &[&entity[..], &["--alter", "--add-config", "max.message.bytes=131072"]].concat(),
        )?;
        std::thread::sleep(Duration::from_millis(300));
        let out = self.at(CONFIGS, "", &[&entity[..], &["--describe"]].concat())?;
        ensure!(
            out.contains("max.message.bytes=131072") && out.contains("DYNAMIC_TOPIC_CONFIG"),
            "described as\n{out}"
        );
        self.at(CONFIGS, "", &[&entity[..], &["--alter", "--delete-config", "max.message.bytes"]].concat())?;
        std::thread::sleep(Duration::from_millis(300));
        let out = self.at(CONFIGS, "", &[&entity[..], &["--describe"]].concat())?;
        ensure!(!out.contains("max.message.bytes=131072"), "described after deletion as\n{out}");
        let args = ["--bootstrap-server", &self.bootstrap, "--alter", "--add-config", "no.such.key=1"];
        let said = self.tool(CONFIGS, "", &[&args[..], &entity[..]].concat())?;
        ensure!(said.exit != 0, "an unknown key is accepted\n{}", said.out);
        Ok("set, described, deleted; an unknown key refused".into())
    }

    fn broker_configs(&self) -> Result<String> {
        let id = self.broker_id()?;
        let entity = ["--entity-type", "brokers", "--entity-name", &id, "--describe"];
        let out = self.at(CONFIGS, "", &[&entity[..], &["--all"]].concat())?;
        for key in ["log.dirs=", "num.partitions=", "listeners="] {
            ensure!(out.contains(key), "no {key}\n{out}");
        }
        Ok(format!("{} keys", out.lines().filter(|l| l.contains('=')).count()))
    }

    fn broker_id(&self) -> Result<String> {
        let out = self.at("org.apache.kafka.tools.BrokerApiVersionsCommand", "", &[])?;
        let id = out.split("(id: ").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(id.with_context(|| format!("no broker id in\n{out}"))?.to_string())
    }

    fn describe_group(&self) -> Result<String> {
        let group = self.group();
        let out = self.at(GROUPS, "", &["--list"])?;
        ensure!(out.lines().any(|l| l == group), "not listed\n{out}");
        let out = self.at(GROUPS, "", &["--describe", "--group", &group])?;
        let lags: Vec<&str> = out.lines().filter_map(|l| l.split_whitespace().nth(5)).collect();
        ensure!(lags.iter().filter(|lag| **lag == "0").count() == 4, "described as\n{out}");
        let out = self.at(GROUPS, "", &["--describe", "--group", &group, "--state"])?;
        ensure!(out.contains("Empty"), "state\n{out}");
        self.at(GROUPS, "", &["--describe", "--group", &group, "--members"])?;
        let out = self.at(GROUPS, "", &["--describe", "--all-groups"])?;
        ensure!(out.contains(&group), "not among all groups\n{out}");
        Ok("4 partitions without lag, empty".into())
    }

    fn reset_offsets(&self) -> Result<String> {
        let group = self.group();
        let reset = ["--reset-offsets", "--group", &group, "--topic", &self.topic, "--execute"];
        for (to, sum) in [(&["--to-earliest"][..], 0), (&["--shift-by", "2"], 8), (&["--to-latest"], LINES)] {
            self.at(GROUPS, "", &[&reset[..], to].concat())?;
            let out = self.at(GROUPS, "", &["--describe", "--group", &group])?;
            let offsets =
                out.lines().filter(|l| l.starts_with(&group)).filter_map(|l| l.split_whitespace().nth(3));
            let got: usize = offsets.filter_map(|o| o.parse::<usize>().ok()).sum();
            ensure!(got == sum, "{}: offsets sum to {got}, not {sum}\n{out}", to.join(" "));
        }
        Ok("to earliest, by 2, to latest".into())
    }

    fn delete_offsets(&self) -> Result<String> {
        let (group, topic) = (self.group(), format!("{}:1", self.topic));
        self.at(GROUPS, "", &["--delete-offsets", "--group", &group, "--topic", &topic])?;
        let out = self.at(GROUPS, "", &["--describe", "--group", &group])?;
        let left = out.lines().filter(|l| l.starts_with(&group)).count();
        ensure!(left == 3, "{left} partitions left\n{out}");
        Ok("one partition's".into())
    }

    fn perf_topic(&self) -> String {
        format!("{}-perf", self.topic)
    }

    /// Creates a topic and lets a real Kafka get to know it.
    fn make(&self, topic: &str) -> Result<()> {
        self.at(TOPICS, "", &["--create", "--topic", topic, "--partitions", "3"])?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    fn producer_perf(&self) -> Result<String> {
        let topic = self.perf_topic();
        self.make(&topic)?;
        let args =
            ["--topic", &topic, "--num-records", "50000", "--record-size", "200", "--throughput", "-1"];
        let out = self.at("org.apache.kafka.tools.ProducerPerformance", "", &args)?;
        let last =
            out.lines().rfind(|l| l.contains("records sent")).with_context(|| format!("no sum\n{out}"))?;
        ensure!(last.starts_with("50000 records sent"), "{last}");
        Ok(last.split(", ").nth(1).unwrap_or(last).to_string())
    }

    fn consumer_perf(&self) -> Result<String> {
        let topic = self.perf_topic();
        let args = ["--topic", &topic, "--num-records", "50000", "--timeout", "20000"];
        let out = self.at("org.apache.kafka.tools.ConsumerPerformance", "", &args)?;
        let sums = out.lines().last().unwrap_or_default();
        let count = sums.split(", ").nth(4).and_then(|n| n.trim().parse::<u64>().ok());
        ensure!(count.is_some_and(|c| c >= 50_000), "{count:?} records\n{out}");
        Ok(format!("{} MB/s", sums.split(", ").nth(3).unwrap_or("?")))
    }

    fn verifiable(&self) -> Result<String> {
        let (topic, group) = (format!("{}-verifiable", self.topic), format!("{}-v", self.group()));
        self.make(&topic)?;
        // It sends what is left when its JVM ends, so it has one of its own.
        let mut producer = self.kafka.tool("org.apache.kafka.tools.VerifiableProducer");
        producer.args(["--bootstrap-server", &self.bootstrap, "--topic", &topic]);
        producer.args(["--max-messages", "5000", "--throughput", "-1"]);
        let said = process::run(producer, b"", self.patience)?;
        let out = String::from_utf8_lossy(&said.out);
        let acked = out.lines().filter(|l| l.contains("producer_send_success")).count();
        ensure!(acked == 5000, "{acked} of 5000 acknowledged\n{}", toolbox::last_lines(&out, 3));
        let args =
            ["--topic", &topic, "--group-id", &group, "--max-messages", "5000", "--reset-policy", "earliest"];
        let out = self.at("org.apache.kafka.tools.VerifiableConsumer", "", &args)?;
        let consumed = out.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        let consumed =
            consumed.filter(|l| l["name"] == "records_consumed").filter_map(|l| l["count"].as_u64());
        let sum: u64 = consumed.sum();
        ensure!(sum == 5000, "{sum} of 5000 consumed");
        Ok("5000 acknowledged, 5000 consumed".into())
    }

    fn log_dirs(&self) -> Result<String> {
        let args = ["--describe", "--topic-list", &self.topic];
        let out = self.at("org.apache.kafka.tools.LogDirsCommand", "", &args)?;
        let json = out.lines().rfind(|l| l.starts_with('{')).with_context(|| format!("no JSON\n{out}"))?;
        let json: serde_json::Value = serde_json::from_str(json)?;
        let dirs = json["brokers"][0]["logDirs"].as_array().with_context(|| format!("no folders\n{out}"))?;
        let parts: Vec<_> = dirs.iter().filter_map(|d| d["partitions"].as_array()).flatten().collect();
        let bytes: u64 = parts.iter().filter_map(|p| p["size"].as_u64()).sum();
        ensure!(parts.len() == 4 && bytes > 0, "{} partitions of {bytes} bytes\n{out}", parts.len());
        Ok(format!("4 partitions, {bytes} bytes"))
    }

    /// The newest segment of a partition, or none when the broker's files are elsewhere.
    fn segment(&self, partition: &str) -> Result<Option<PathBuf>> {
        let Some(data) = &self.data else { return Ok(None) };
        let dir = data.join(partition);
        let files = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let logs = files
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "log"));
        Ok(Some(logs.max().with_context(|| format!("no segment in {}", dir.display()))?))
    }

    fn dump(&self, file: &Path, more: &[&str]) -> Result<String> {
        let out = self.ok(DUMP, "", &[&["--files", &file.display().to_string()][..], more].concat())?;
        for complaint in
            ["Mismatch", "Non-secutive", "is corrupt", "invalid bytes", "Found timestamp mismatch"]
        {
            ensure!(!out.contains(complaint), "{complaint} in {}\n{out}", file.display());
        }
        Ok(out)
    }

    fn dump_log(&self) -> Result<String> {
        let mut records = 0;
        for p in 0..4 {
            let Some(log) = self.segment(&format!("{}-{p}", self.topic))? else { return Ok(String::new()) };
            let out = self.dump(&log, &["--print-data-log", "--deep-iteration"])?;
            records += out.lines().filter(|l| l.contains("payload: value-")).count();
            for index in ["index", "timeindex"] {
                let file = log.with_extension(index);
                if file.is_file() {
                    self.dump(&file, &["--index-sanity-check"])?;
                }
            }
        }
        ensure!(records == LINES, "{records} records, not {LINES}");
        Ok(format!("{records} records, indexes sane"))
    }

    fn dump_offsets(&self) -> Result<String> {
        let Some(data) = &self.data else { return Ok(String::new()) };
        let mut keys = 0;
        for entry in std::fs::read_dir(data)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with("__consumer_offsets-") {
                continue;
            }
            let Some(log) = self.segment(&name)? else { return Ok(String::new()) };
            if std::fs::metadata(&log)?.len() > 0 {
                let out = self.dump(&log, &["--offsets-decoder"])?;
                keys += out.lines().filter(|l| l.contains(&self.group()) && l.contains("\"data\"")).count();
            }
        }
        ensure!(keys >= 4, "{keys} records of {} in __consumer_offsets", self.group());
        Ok(format!("{keys} records of the group"))
    }

    fn dump_metadata(&self) -> Result<String> {
        let Some(log) = self.segment("__cluster_metadata-0")? else { return Ok(String::new()) };
        let out = self.dump(&log, &["--cluster-metadata-decoder"])?;
        let of = |kind: &str| out.lines().filter(|l| l.contains(&format!("\"type\":\"{kind}\""))).count();
        ensure!(of("TOPIC_RECORD") > 0, "no topic records\n{}", toolbox::last_lines(&out, 10));
        ensure!(
            out.contains(&format!("\"name\":\"{}\"", self.topic)),
            "the topic is not in the metadata log"
        );
        Ok(format!("{} topics, {} partitions", of("TOPIC_RECORD"), of("PARTITION_RECORD")))
    }

    fn delete_records(&self) -> Result<String> {
        let file = self.dir.join("delete-records.json");
        let wanted = format!(
            "{{\"partitions\":[{{\"topic\":\"{0}\",\"partition\":0,\"offset\":3}},{{\"topic\":\"{0}\",\"partition\":1,\
             \"offset\":-1}}],\"version\":1}}",
            self.topic
        );
        std::fs::write(&file, wanted)?;
        let args = ["--offset-json-file", &file.display().to_string()];
        let out = self.at("org.apache.kafka.tools.DeleteRecordsCommand", "", &args)?;
        ensure!(out.contains("low_watermark: 3"), "said\n{out}");
        let out = self.at(
            OFFSETS,
            "",
            &["--topic-partitions", &format!("{}:0", self.topic), "--time", "earliest"],
        )?;
        ensure!(out.trim().ends_with(":3"), "earliest is {out}");
        Ok("to offset 3, and to the end".into())
    }

    fn delete(&self) -> Result<String> {
        self.at(GROUPS, "", &["--delete", "--group", &self.group()])?;
        let out = self.at(GROUPS, "", &["--list"])?;
        ensure!(!out.lines().any(|l| l == self.group()), "the deleted group is listed\n{out}");
        self.at(TOPICS, "", &["--delete", "--topic", &self.topic])?;
        std::thread::sleep(Duration::from_millis(500));
        let out = self.at(TOPICS, "", &["--list"])?;
        ensure!(!out.lines().any(|l| l == self.topic), "the deleted topic is listed\n{out}");
        Ok("both gone".into())
    }
}
