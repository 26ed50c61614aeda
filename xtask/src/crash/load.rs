//! The client programs of a case: writers and group members of several families, and our own client for everything
//! that is asked once. Each is a process that waits for a broker that is away; each ends when told, or when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::ledger::{Ack, Ledger, Seen};
use crate::interop::client::Driver;
use crate::interop::families;
use crate::interop::process::{self, Line, Process};

/// How long anything may take that clients do.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Waiting in counted steps: a machine that stands still meanwhile does not use the patience up.
pub struct Waiting(Duration);

impl Waiting {
    /// For at most so long.
    pub fn at_most(patience: Duration) -> Self {
        Self(patience)
    }

    /// Sleeps a step; false once the patience is used up.
    pub fn step(&mut self, step: Duration) -> bool {
        std::thread::sleep(step);
        self.0 = self.0.saturating_sub(step);
        !self.0.is_zero()
    }
}

/// The binary and our own client.
pub struct Built {
    /// `moldau`.
    pub bin: PathBuf,
    /// The example `driver` of crates/client.
    pub driver: PathBuf,
}

impl Built {
    /// What is given; the rest is built from this checkout as it is released.
    pub fn obtain(root: &Path, bin: &Option<PathBuf>, driver: &Option<PathBuf>) -> Result<Self> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--release", "--locked"]);
        if driver.is_none() {
            cargo.args(["-p", "moldau-client", "--example", "driver"]);
        }
        if bin.is_none() {
            cargo.args(["-p", "moldau-cli", "--bin", "moldau"]);
        }
        if driver.is_none() || bin.is_none() {
            let status = cargo.current_dir(root).status().context("cannot run cargo")?;
            ensure!(status.success(), "the release build failed, {status}");
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
        let release = root.join(target).join("release");
        let path = |given: &Option<PathBuf>, built: &str| -> Result<PathBuf> {
            let path = std::path::absolute(given.clone().unwrap_or_else(|| release.join(built)))?;
            ensure!(path.is_file(), "no {}", path.display());
            Ok(path)
        };
        Ok(Self { bin: path(bin, "moldau")?, driver: path(driver, "examples/driver")? })
    }
}

/// The client programs.
pub struct Programs {
    own: PathBuf,
    launches: BTreeMap<&'static str, families::Launch>,
    /// Families that the machine cannot run, with the reason.
    pub missing: Vec<String>,
}

/// Families besides our own client.
pub const FAMILIES: [&str; 2] = ["confluent", "franz-go"];
/// Our own client.
pub const OWN: &str = "moldau";

impl Programs {
    /// Our own client at `own`, and what the machine has of the others.
    pub fn obtain(own: PathBuf, families: &[&'static str]) -> Result<Self> {
        let mut programs = Self { own, launches: BTreeMap::new(), missing: Vec::new() };
        for &name in families {
            match families::prepare(name, 1)?.driver {
                Driver::Program(launch, _) => drop(programs.launches.insert(name, launch)),
                Driver::Missing(why) => programs.missing.push(format!("{name}: {why}")),
                Driver::Kcat(_) => bail!("{name} has no program"),
            }
        }
        Ok(programs)
    }

    /// The families that are there, our own client first.
    pub fn families(&self) -> Vec<&'static str> {
        [OWN].into_iter().chain(self.launches.keys().copied()).collect()
    }

    fn command(&self, family: &str, address: &str, case: &str) -> Command {
        match self.launches.get(family) {
            Some(launch) => launch.command(address, case),
            None => {
                let mut command = Command::new(&self.own);
                command.args([address, case]);
                command
            }
        }
    }

    /// Runs one case of our own client to its end; what it answers.
    pub fn ask(&self, address: &str, case: &str, words: &[String]) -> Result<String> {
        let mut command = self.command(OWN, address, case);
        command.args(words);
        let said = process::run(command, &[], PATIENCE)?;
        let text = String::from_utf8_lossy(&said.out);
        let answer: Answer = text
            .lines()
            .find_map(|line| serde_json::from_str(line).ok())
            .with_context(|| format!("{case}: no answer ({:?}) {text}{}", said.status, said.err))?;
        match answer.ok {
            true => Ok(answer.detail),
            false => Err(Refusal(answer.detail).into()),
        }
    }

    /// Creates a topic.
    pub fn create(&self, address: &str, topic: &str, partitions: usize, configs: &[&str]) -> Result<()> {
        let mut words = vec![format!("topic={topic}"), format!("parts={partitions}")];
        words.extend(configs.iter().map(|config| (*config).to_owned()));
        self.ask(address, "create", &words).map(drop)
    }

    /// Reads what is behind the end of the ledger, and takes it in. Returns where the partitions begin and end.
    pub fn read_on(
        &self,
        address: &str,
        topic: &str,
        out: &Path,
        ledger: &mut Ledger,
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        let from = ledger.ends();
        let answer = self.read(address, topic, out, &list(&from))?;
        ledger.records(out)?;
        Ok(answer)
    }

    /// Reads from offsets, or from the `start`, to the end, into a record file.
    pub fn read(&self, address: &str, topic: &str, out: &Path, from: &str) -> Result<(Vec<u64>, Vec<u64>)> {
        let words = [format!("topic={topic}"), format!("from={from}"), format!("out={}", out.display())];
        bounds_of(&self.ask(address, "read", &words)?)
    }

    /// Where the partitions begin and end.
    pub fn bounds(&self, address: &str, topic: &str) -> Result<(Vec<u64>, Vec<u64>)> {
        bounds_of(&self.ask(address, "bounds", &[format!("topic={topic}")])?)
    }
}

fn bounds_of(answer: &str) -> Result<(Vec<u64>, Vec<u64>)> {
    let (starts, ends) = answer.split_once(' ').context("an answer with bounds has two parts")?;
    Ok((numbers(starts)?, numbers(ends)?))
}

/// Numbers as the driver takes them.
pub fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    text.split(',').map(|n| n.parse().with_context(|| format!("`{n}` is no offset"))).collect()
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    detail: String,
}

/// What the broker, or the client in its name, refused.
#[derive(Debug)]
pub struct Refusal(pub String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What a writer is told.
pub struct Order<'a> {
    /// Where the broker is.
    pub address: &'a str,
    /// The topic and its number of partitions.
    pub topic: (&'a str, usize),
    /// Its family.
    pub family: &'static str,
    /// Its name, in every record.
    pub name: String,
    /// Records a second.
    pub rate: u64,
    /// Seconds that a record is tried for.
    pub timeout: u64,
    /// Where its file is.
    pub folder: &'a Path,
    /// Further words for the program.
    pub more: &'a [&'a str],
}

/// A process that sends numbered records.
pub struct Writer {
    process: Process,
    name: String,
    id: u16,
    acks: PathBuf,
    read_to: u64,
    /// Acknowledgements that were read.
    acked: u64,
    /// Records that failed, with the last reason.
    pub failed: (u64, String),
}

impl Writer {
    /// Starts one.
    pub fn start(programs: &Programs, order: &Order<'_>, ledger: &mut Ledger) -> Result<Self> {
        let Order { address, topic: (topic, partitions), family, name, rate, timeout, folder, more } = order;
        let acks = folder.join(format!("{name}.acks"));
        let _ = fs::remove_file(&acks);
        let mut command = programs.command(family, address, "load");
        command.args([
            format!("topic={topic}"),
            format!("parts={partitions}"),
            format!("id={name}"),
            format!("rate={rate}"),
            format!("timeout={timeout}"),
            format!("acks={}", acks.display()),
        ]);
        command.args(*more);
        let process = Process::spawn(command)?;
        let id = ledger.writer(name);
        Ok(Self { process, name: name.clone(), id, acks, read_to: 0, acked: 0, failed: (0, String::new()) })
    }

    /// Its name, in every record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the ledger.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// How many acknowledgements were read so far.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The acknowledgements since the last call.
    pub fn acks(&mut self) -> Result<Vec<Ack>> {
        let Ok(mut file) = fs::File::open(&self.acks) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.read_to += whole as u64;
        let mut acks = Vec::new();
        for line in String::from_utf8_lossy(&text[..whole]).lines() {
            if line.starts_with('!') {
                self.failed.0 += 1;
                self.failed.1 = line.to_owned();
                continue;
            }
            let mut words = line.split(' ');
            let mut word = || words.next().and_then(|w| w.parse::<i64>().ok());
            let (Some(partition), Some(offset), Some(number)) = (word(), word(), word()) else {
                bail!("{}: `{line}` is no acknowledgement", self.name);
            };
            let at = word().and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
            let offset = u64::try_from(offset).ok();
            let (partition, number) = (usize::try_from(partition)?, u64::try_from(number)?);
            acks.push(Ack { partition, offset, number, at });
        }
        self.acked += acks.len() as u64;
        Ok(acks)
    }

    /// An error with its last words if it has ended.
    pub fn check(&mut self) -> Result<()> {
        while let Line::Text(line) = self.process.line(Instant::now()) {
            self.process.remember(&line);
        }
        match self.process.wait(Duration::ZERO) {
            None => Ok(()),
            Some(status) => {
                bail!("writer {} ended with {status}:\n{}", self.name, self.process.tail().join("\n"))
            }
        }
    }

    /// Asks it to send what it still has and to end; does not wait.
    pub fn dismiss(&mut self) {
        self.process.close();
    }

    /// Whether it has ended, however.
    pub fn has_left(&mut self) -> bool {
        self.process.wait(Duration::ZERO).is_some()
    }

    /// Asks it to send what it still has, and waits for its end; what it answers.
    pub fn finish(&mut self) -> Result<String> {
        self.dismiss();
        let status = self.process.wait(PATIENCE);
        let mut last = String::new();
        while let Line::Text(line) = self.process.line(Instant::now() + Duration::from_millis(200)) {
            last.clone_from(&line);
            self.process.remember(&line);
        }
        match status {
            Some(status) if status.success() => Ok(last),
            _ => bail!("writer {} left with {status:?}:\n{}", self.name, self.process.tail().join("\n")),
        }
    }

    /// Ends it at once, whatever it still has.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A process that reads in a group and commits.
pub struct Reader {
    process: Process,
    out: PathBuf,
}

impl Reader {
    /// Starts one that keeps what it reads in `out`.
    pub fn join(
        programs: &Programs,
        family: &str,
        address: &str,
        (topic, group): (&str, &str),
        out: PathBuf,
    ) -> Result<Self> {
        let mut command = programs.command(family, address, "member");
        command.args([format!("topic={topic}"), format!("group={group}"), format!("out={}", out.display())]);
        Ok(Self { process: Process::spawn(command)?, out })
    }

    /// An error with its last words if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.drain();
        match self.process.wait(Duration::ZERO) {
            None => Ok(()),
            Some(status) => {
                bail!("a group member ended with {status}:\n{}", self.process.tail().join("\n"))
            }
        }
    }

    /// Takes in what it has read since the last call.
    pub fn take_in(&mut self, ledger: &mut Ledger, seen: &mut Seen) -> Result<()> {
        self.check()?;
        if self.out.exists() { ledger.seen(&self.out, seen) } else { Ok(()) }
    }

    /// Forgets the events that it prints.
    pub fn drain(&mut self) {
        while let Line::Text(line) = self.process.line(Instant::now()) {
            self.process.remember(&line);
        }
    }

    /// Asks it to leave.
    pub fn leave(&mut self) -> Result<()> {
        self.process.close();
        match self.process.wait(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            status => bail!("a group member left with {status:?}:\n{}", self.process.tail().join("\n")),
        }
    }
}

/// Starts a writer of every family.
pub fn writers(
    programs: &Programs,
    order: &Order<'_>,
    families: &[&'static str],
    ledger: &mut Ledger,
) -> Result<Vec<Writer>> {
    let mut all = Vec::new();
    for &family in families {
        let order =
            Order { family, name: format!("{}-{family}", order.name), folder: order.folder, ..*order };
        all.push(Writer::start(programs, &order, ledger)?);
    }
    Ok(all)
}

/// Waits until each writer has got an acknowledgement from now on; these are added to `acks`.
pub fn progress(writers: &mut [Writer], acks: &mut Acks) -> Result<()> {
    let since: Vec<u64> = writers.iter().map(Writer::acked).collect();
    progress_since(writers, &since, acks)
}

/// Waits until each writer has got an acknowledgement since it had got so many; new ones are added to `acks`.
pub fn progress_since(writers: &mut [Writer], since: &[u64], acks: &mut Acks) -> Result<()> {
    let mut patience = Waiting::at_most(PATIENCE);
    loop {
        writers.iter_mut().try_for_each(Writer::check)?;
        collect(writers, acks)?;
        let waiting = writers.iter().zip(since).filter(|(writer, since)| writer.acked <= **since);
        let waiting: Vec<String> = waiting.map(|(w, _)| format!("{} ({})", w.name, w.failed.1)).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if !patience.step(Duration::from_millis(20)) {
            bail!("no acknowledgement within {} s: {}", PATIENCE.as_secs(), waiting.join(", "));
        }
    }
}

/// Acknowledgements that were not compared yet, by writer.
pub type Acks = BTreeMap<u16, Vec<Ack>>;

/// Adds what the writers got since the last call.
pub fn collect(writers: &mut [Writer], acks: &mut Acks) -> Result<()> {
    for writer in writers {
        let new = writer.acks()?;
        acks.entry(writer.id).or_default().extend(new);
    }
    Ok(())
}

/// Compares acknowledgements with what was read after they came.
pub fn settle(acks: &mut Acks, ledger: &mut Ledger) {
    for (writer, acks) in std::mem::take(acks) {
        ledger.acks(writer, &acks);
    }
}
