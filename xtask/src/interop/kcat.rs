//! kcat, Debian's command-line client over librdkafka: the cases of the client programs in its own options.

use super::client::{Outcome, Verdict};
use super::process::{self, Said};
use super::rule::{self, Record};
use crate::apt;
use crate::toolbox::{self, find, last_lines, once};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Bytes that no text value has, between key and value and between records.
const KEY_END: &str = "\x1f";
const RECORD_END: &str = "\x1e";

/// The program and where its libraries are.
#[derive(Clone)]
pub struct Kcat {
    program: PathBuf,
    libraries: Option<PathBuf>,
}

type Words<'a> = HashMap<&'a str, &'a str>;

/// A record that kcat printed, with its place.
struct Printed {
    offset: u32,
    ts: i64,
    record: Record,
}

impl Kcat {
    /// kcat from the PATH, or from Debian's packages unpacked into `.tools/`.
    pub fn obtain() -> Result<Self> {
        if let Some(program) = find("kcat") {
            return Ok(Self { program, libraries: None });
        }
        let dir = toolbox::dir("kcat")?;
        let packages = ["kcat", "librdkafka1", "libyajl2"];
        once(&dir, &packages.join(" "), || {
            eprintln!("fetching kcat into {}", dir.display());
            apt::unpack(&packages, &dir)
        })?;
        let mut libraries = None;
        for entry in fs::read_dir(dir.join("usr/lib"))? {
            libraries = Some(entry?.path()).filter(|p| p.is_dir()).or(libraries);
        }
        Ok(Self { program: dir.join("usr/bin/kcat"), libraries })
    }

    fn command(&self, bootstrap: &str) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.args(["-b", bootstrap]);
        command
    }

    /// A group member: it prints `PARTITION OFFSET` per record, and its assignments on standard error.
    pub fn member(&self, bootstrap: &str, topic: &str, group: &str) -> Command {
        let mut command = self.command(bootstrap);
        command.args(["-G", group, "-f", "%p %o\\n", "-u"]);
        for setting in ["session.timeout.ms=6000", "heartbeat.interval.ms=500", "auto.offset.reset=earliest"]
        {
            command.args(["-X", setting]);
        }
        command.args(["-X", "auto.commit.interval.ms=200"]).arg(topic);
        command
    }

    /// Runs one case.
    pub fn ask(&self, bootstrap: &str, case: &str, args: &str, patience: Duration) -> Outcome {
        let words: Words<'_> = args.split_whitespace().filter_map(|w| w.split_once('=')).collect();
        let run = Run { kcat: self, bootstrap, words, patience };
        let detail = match case {
            "produce" => run.produce(),
            "consume" => run.consume(),
            "seek" => run.seek(),
            "seektime" => run.seektime(),
            "offsets" => run.offsets(),
            "resume" => run.resume(),
            _ => return Outcome::new(Verdict::Absent, "kcat has no such command"),
        };
        match detail {
            Ok(detail) => Outcome::new(Verdict::Ok, detail),
            Err(why) => Outcome::fail(format!("{why:#}")),
        }
    }
}

struct Run<'a> {
    kcat: &'a Kcat,
    bootstrap: &'a str,
    words: Words<'a>,
    patience: Duration,
}

impl Run<'_> {
    fn word(&self, name: &str) -> Result<&str> {
        self.words.get(name).copied().with_context(|| format!("the case needs {name}="))
    }

    fn num(&self, name: &str) -> Result<u32> {
        self.word(name)?.parse().with_context(|| format!("{name} must be a number"))
    }

    fn rule(&self) -> &str {
        self.words.get("rule").copied().unwrap_or("mix")
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut command = self.kcat.command(self.bootstrap);
        command.args(args);
        let Said { status, out, err } = process::run(command, input, self.patience)?;
        match status {
            Some(status) if status.success() => Ok(out),
            Some(status) => bail!("kcat {}: {status}\n{}", args.join(" "), last_lines(&err, 8)),
            None => bail!(
                "kcat {}: no end after {} s\n{}",
                args.join(" "),
                self.patience.as_secs(),
                last_lines(&err, 8)
            ),
        }
    }

    fn produce(&self) -> Result<String> {
        let (n, parts, seed) = (self.num("n")?, self.num("parts")?, self.num("seed")?);
        if self.rule() != "plain" {
            return self.produce_singly(n, parts, seed);
        }
        let idem = if self.words.get("idem") == Some(&"1") { "true" } else { "false" };
        for p in 0..parts {
            let lines: Vec<String> = (p..n).step_by(parts as usize).map(|i| line(seed, i)).collect();
            let (part, idem) = (p.to_string(), format!("enable.idempotence={idem}"));
            let mut args =
                vec!["-P", "-t", self.word("topic")?, "-p", &part, "-z", self.word("codec")?, "-Z"];
            args.extend(["-K", KEY_END, "-D", RECORD_END, "-X", &idem]);
            self.run(&args, lines.join(RECORD_END).as_bytes())?;
        }
        Ok(format!("{n} records"))
    }

    /// One process per record: its value is a file, its headers are options.
    fn produce_singly(&self, n: u32, parts: u32, seed: u32) -> Result<String> {
        let topic = self.word("topic")?;
        let file = std::env::temp_dir().join(format!("moldau-kcat-{}-{topic}", std::process::id()));
        for i in 0..n {
            let record = rule::record(self.rule(), seed, i);
            fs::write(&file, record.value.unwrap_or_default())?;
            let (part, key) = ((i % parts).to_string(), String::from_utf8(record.key.unwrap_or_default())?);
            let headers: Vec<String> = record.headers.into_iter().map(header_option).collect();
            let path = file.display().to_string();
            let mut args =
                vec!["-P", "-t", topic, "-p", &part, "-k", &key, "-X", "message.max.bytes=4194304"];
            for header in &headers {
                args.extend(["-H", header]);
            }
            args.push(&path);
            self.run(&args, b"")?;
        }
        fs::remove_file(&file)?;
        Ok(format!("{n} records, one by one"))
    }

    fn read(&self, p: u32, from: &str, count: u32) -> Result<Vec<Printed>> {
        let (part, count_text) = (p.to_string(), count.to_string());
        let mut args = vec!["-C", "-t", self.word("topic")?, "-p", &part, "-o", from, "-c", &count_text];
        args.extend(["-q", "-f", "%p %o %T %K %S %h\\n%k%s\\n"]);
        let out = self.run(&args, b"")?;
        let printed = parse(&out).with_context(|| format!("unreadable output for partition {p}"))?;
        ensure!(printed.len() == count as usize, "{} of {count} records of partition {p}", printed.len());
        Ok(printed)
    }

    fn check(&self, p: u32, first: u32, printed: &[Printed]) -> Result<()> {
        let (parts, seed) = (self.num("parts")?, self.num("seed")?);
        let t0: i64 = self.words.get("t0").unwrap_or(&"0").parse()?;
        for (due, got) in (first..).zip(printed) {
            ensure!(got.offset == due, "partition {p}: offset {} where {due} was due", got.offset);
            let i = due * parts + p;
            let want = rule::record(self.rule(), seed, i);
            ensure!(got.record == want, "partition {p} offset {due}: record {i} is {:?}", got.record);
            if t0 != 0 && self.rule() != "plain" {
                let ts = t0 + 1000 * i64::from(i);
                ensure!(got.ts == ts, "record {i}: timestamp is {}, not {ts}", got.ts);
            }
        }
        Ok(())
    }

    fn consume(&self) -> Result<String> {
        let (n, parts) = (self.num("n")?, self.num("parts")?);
        for p in 0..parts {
            let count = (n - p).div_ceil(parts);
            self.check(p, 0, &self.read(p, "beginning", count)?)?;
        }
        Ok(format!("{n} records"))
    }

    fn seek(&self) -> Result<String> {
        let each = self.num("n")? / self.num("parts")?;
        for (from, count) in [(each / 2, 5), (each - 3, 3), (1, 5)] {
            self.check(0, from, &self.read(0, &from.to_string(), count)?)?;
        }
        Ok("three places".into())
    }

    fn seektime(&self) -> Result<String> {
        let (n, parts) = (i64::from(self.num("n")?), i64::from(self.num("parts")?));
        let t0: i64 = self.word("t0")?.parse()?;
        for offset in [0, 7] {
            let found = self.query(1, t0 + 1000 * (offset * parts + 1) - 500)?;
            ensure!(found == offset, "found offset {found}, not {offset}");
        }
        let from = format!("s@{}", t0 + 1000 * (7 * parts + 1) - 500);
        self.check(1, 7, &self.read(1, &from, 4)?)?;
        let after = self.query(1, t0 + 1000 * n + 1)?;
        ensure!(after < 0, "a time after the last record has offset {after}");
        Ok("found, and none after the end".into())
    }

    /// ListOffsets for a timestamp, -1 the end, -2 the start.
    fn query(&self, p: u32, at: i64) -> Result<i64> {
        let asked = format!("{}:{p}:{at}", self.word("topic")?);
        let out = self.run(&["-Q", "-t", &asked], b"")?;
        let text = String::from_utf8(out)?;
        let number = text.trim().rsplit(' ').next().unwrap_or_default();
        number.parse().with_context(|| format!("cannot read `{}`", text.trim()))
    }

    fn offsets(&self) -> Result<String> {
        let (n, parts) = (self.num("n")?, self.num("parts")?);
        for p in 0..parts {
            let (first, last) = (self.query(p, -2)?, self.query(p, -1)?);
            let due = i64::from((n - p).div_ceil(parts));
            ensure!((first, last) == (0, due), "partition {p}: {first} to {last}, not 0 to {due}");
        }
        Ok(format!("earliest and latest of {parts}"))
    }

    fn resume(&self) -> Result<String> {
        let n = self.num("n")?;
        let mut seen = BTreeSet::new();
        let mut runs = Vec::new();
        for count in [n / 2, n - n / 2] {
            let count_text = count.to_string();
            let mut args = vec!["-G", self.word("group")?, "-c", &count_text, "-q", "-f", "%p %o\\n"];
            args.extend(["-X", "auto.offset.reset=earliest", self.word("topic")?]);
            let out = String::from_utf8(self.run(&args, b"")?)?;
            runs.push(out.lines().count());
            seen.extend(out.lines().map(String::from));
        }
        ensure!(seen.len() == n as usize, "{runs:?} records read, {} different, of {n}", seen.len());
        Ok(format!("{} then {}", runs[0], runs[1]))
    }
}

fn line(seed: u32, i: u32) -> String {
    let record = rule::record("plain", seed, i);
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    match record.key {
        Some(key) => format!("{}{KEY_END}{value}", String::from_utf8_lossy(&key)),
        None => value,
    }
}

fn header_option((name, value): (String, Option<Vec<u8>>)) -> String {
    match value {
        Some(value) => format!("{name}={}", String::from_utf8_lossy(&value)),
        None => name,
    }
}

/// Reads what `%p %o %T %K %S %h\n%k%s\n` printed.
fn parse(mut out: &[u8]) -> Option<Vec<Printed>> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let end = out.iter().position(|b| *b == b'\n')?;
        let mut words = out[..end].splitn(6, |b| *b == b' ');
        let mut number = || -> Option<i64> { std::str::from_utf8(words.next()?).ok()?.parse().ok() };
        let (_, offset, ts, key, value) = (number()?, number()?, number()?, number()?, number()?);
        let headers = parse_headers(words.next().unwrap_or_default())?;
        out = &out[end + 1..];
        let mut field = |size: i64| -> Option<Option<Vec<u8>>> {
            let Ok(size) = usize::try_from(size) else { return Some(None) };
            let (field, rest) = out.split_at_checked(size)?;
            out = rest;
            Some(Some(field.to_vec()))
        };
        let record = Record { key: field(key)?, value: field(value)?, headers };
        out = out.strip_prefix(b"\n")?;
        all.push(Printed { offset: u32::try_from(offset).ok()?, ts, record });
    }
    Some(all)
}

fn parse_headers(text: &[u8]) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let header = |h: &[u8]| {
        let at = h.iter().position(|b| *b == b'=')?;
        let value = (&h[at + 1..] != b"NULL").then(|| h[at + 1..].to_vec());
        Some((String::from_utf8_lossy(&h[..at]).into_owned(), value))
    };
    text.split(|b| *b == b',').map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_records_are_read_by_length() {
        let out = b"0 5 1700 2 3 h0=v1,h1=,h2=NULL\nk\n\n a\n0 6 1701 -1 0 \n\n";
        let all = parse(out).expect("two records");
        assert_eq!((all[0].offset, all[0].ts), (5, 1700));
        assert_eq!(all[0].record.key.as_deref(), Some(&b"k\n"[..]));
        assert_eq!(all[0].record.value.as_deref(), Some(&b"\n a"[..]));
        assert_eq!(all[0].record.headers[2], ("h2".to_string(), None));
        assert_eq!((all[1].record.key.clone(), all[1].record.value.clone()), (None, Some(Vec::new())));
    }

    #[test]
    fn a_cut_output_is_noticed() {
        assert!(parse(b"0 5 1700 2 3 \nk").is_none());
        assert!(parse(b"0 x 1700 2 3 \nkkvvv\n").is_none());
    }
}
