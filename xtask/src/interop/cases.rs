//! The cases: what a client family is made to do, and which other family reads what it wrote.

use super::client::{Client, Driver, Outcome, Verdict};
use super::group;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Every case, in the order of the table's rows.
pub const CASES: [&str; 15] = [
    "none",
    "gzip",
    "snappy",
    "lz4",
    "zstd",
    "null header",
    "1 MiB",
    "idempotent",
    "group",
    "resume",
    "seek",
    "seek time",
    "topics",
    "configs",
    "offsets",
];

/// Records of an ordinary topic, and its partitions.
const RECORDS: u32 = 300;
const PARTITIONS: u32 = 3;
const SEED: u32 = 7;

/// What every case of a run shares.
pub struct Bench {
    /// Where the broker is.
    pub bootstrap: String,
    /// The families that were asked for.
    pub clients: Vec<Client>,
    /// A prefix of topics and groups that no earlier run used.
    pub tag: String,
    /// The timestamp of record 0.
    pub t0: u64,
    /// How long the broker may take to know a topic that it created (a real Kafka answers before it does).
    pub lag: Duration,
    /// How long one step of a case may take.
    pub patience: Duration,
    /// One topic per family with [`RECORDS`] records in it.
    pub data: Vec<OnceLock<Result<String, Outcome>>>,
}

impl Bench {
    /// Runs one case of the family at `me`; each attempt has topics of its own.
    pub fn run(&self, me: usize, case: &str, attempt: u32) -> Outcome {
        let client = &self.clients[me];
        if let Some(why) = client.missing() {
            return Outcome::new(Verdict::Skipped, why);
        }
        let began = Instant::now();
        let topic = format!("{}-{}-{}-{attempt}", self.tag, client.name, case.replace(' ', "-"));
        let outcome = match case {
            "none" | "gzip" | "snappy" | "lz4" | "zstd" => self.codec(me, case, &topic),
            "null header" => self.null_header(me, &topic),
            "1 MiB" => self.big(me, &topic),
            "idempotent" => self.idempotent(me, &topic),
            "group" => group::run(self, me, &topic),
            "resume" => self.on_data(me, "resume", &format!("group={topic}")),
            "seek" => self.on_data(me, "seek", ""),
            "seek time" => self.on_data(me, "seektime", ""),
            "offsets" => self.on_data(me, "offsets", ""),
            "topics" => self.ask(me, "topics", &format!("topic={topic}")),
            "configs" => self.configs(me, &topic),
            other => Outcome::fail(format!("no case `{other}`")),
        };
        outcome.since(began)
    }

    /// Asks the family at `who` for one step.
    pub fn ask(&self, who: usize, case: &str, args: &str) -> Outcome {
        self.clients[who].ask(&self.bootstrap, case, args, self.patience)
    }

    /// Creates a topic through the family itself, or through another when it has no administration.
    pub fn create(&self, me: usize, topic: &str, parts: u32, configs: &str) -> Result<(), Outcome> {
        let who = if self.is_kcat(me) { self.helper() } else { Some(me) };
        let Some(who) = who else { return Ok(()) };
        let outcome = self.ask(who, "create", &format!("topic={topic} parts={parts} {configs}"));
        std::thread::sleep(self.lag);
        if outcome.is_ok() { Ok(()) } else { Err(prefix("create", outcome)) }
    }

    fn is_kcat(&self, who: usize) -> bool {
        matches!(self.clients[who].driver, Driver::Kcat(_))
    }

    /// The first family that has a program of ours.
    fn helper(&self) -> Option<usize> {
        self.clients.iter().position(|c| matches!(c.driver, Driver::Program(..)))
    }

    /// Another family than `me`, a different one for each `turn`.
    fn reader(&self, me: usize, turn: usize) -> usize {
        let able: Vec<usize> =
            (0..self.clients.len()).filter(|c| self.clients[*c].missing().is_none()).collect();
        let at = able.iter().position(|c| *c == me).unwrap_or(0);
        let others = able.len().saturating_sub(1).max(1);
        able[(at + 1 + turn % others) % able.len()]
    }

    fn content(&self, topic: &str, n: u32, rule: &str, t0: u64) -> String {
        format!("topic={topic} parts={PARTITIONS} n={n} seed={SEED} t0={t0} rule={rule}")
    }

    /// The family writes, another reads.
    fn crossed(&self, me: usize, turn: usize, what: &str, codec: &str, idem: &str) -> Outcome {
        let wrote = self.ask(me, "produce", &format!("{what} codec={codec} idem={idem}"));
        if !wrote.is_ok() {
            return prefix("write", wrote);
        }
        let reader = self.reader(me, turn);
        let name = self.clients[reader].name;
        let read = self.ask(reader, "consume", what);
        if read.is_ok() {
            return Outcome::new(Verdict::Ok, format!("{}, read by {name}", wrote.detail));
        }
        let own = self.ask(me, "consume", what);
        let own =
            if own.is_ok() { "which the writer itself reads" } else { "which the writer cannot read either" };
        Outcome { detail: format!("read by {name}, {own}: {}", read.detail), ..read }
    }

    fn codec(&self, me: usize, codec: &str, topic: &str) -> Outcome {
        if let Err(failed) = self.create(me, topic, PARTITIONS, "") {
            return failed;
        }
        let rule = if self.is_kcat(me) { "plain" } else { "mix" };
        let turn = CASES.iter().position(|c| *c == codec).unwrap_or(0);
        self.crossed(me, turn, &self.content(topic, RECORDS, rule, self.t0), codec, "0")
    }

    fn null_header(&self, me: usize, topic: &str) -> Outcome {
        if let Err(failed) = self.create(me, topic, PARTITIONS, "") {
            return failed;
        }
        self.crossed(me, 5, &self.content(topic, 6, "nullhdr", self.own_times(me)), "none", "0")
    }

    fn big(&self, me: usize, topic: &str) -> Outcome {
        if let Err(failed) = self.create(me, topic, PARTITIONS, "max.message.bytes=4194304") {
            return failed;
        }
        self.crossed(me, 6, &self.content(topic, 6, "big", self.own_times(me)), "none", "0")
    }

    /// kcat cannot set timestamps: 0 asks for the client's own, unchecked.
    fn own_times(&self, me: usize) -> u64 {
        if self.is_kcat(me) { 0 } else { self.t0 }
    }

    fn idempotent(&self, me: usize, topic: &str) -> Outcome {
        if let Err(failed) = self.create(me, topic, PARTITIONS, "") {
            return failed;
        }
        let rule = if self.is_kcat(me) { "plain" } else { "mix" };
        self.crossed(me, 7, &self.content(topic, RECORDS, rule, self.t0), "lz4", "1")
    }

    /// A case on the family's topic of ordinary records, made on first use.
    fn on_data(&self, me: usize, case: &str, args: &str) -> Outcome {
        let made = self.data[me].get_or_init(|| {
            let topic = format!("{}-{}-data", self.tag, self.clients[me].name);
            let writer = if self.is_kcat(me) { self.helper().unwrap_or(me) } else { me };
            self.create(me, &topic, PARTITIONS, "")?;
            let what = self.content(&topic, RECORDS, "mix", self.t0);
            let wrote = self.ask(writer, "produce", &format!("{what} codec=none"));
            if wrote.is_ok() { Ok(topic) } else { Err(prefix("write", wrote)) }
        });
        match made {
            Ok(topic) => {
                self.ask(me, case, &format!("{} {args}", self.content(topic, RECORDS, "mix", self.t0)))
            }
            Err(failed) => failed.clone(),
        }
    }

    fn configs(&self, me: usize, topic: &str) -> Outcome {
        if self.is_kcat(me) {
            return self.ask(me, "configs", "");
        }
        if let Err(failed) = self.create(me, topic, 1, "retention.ms=86400000 max.message.bytes=4194304") {
            return failed;
        }
        self.ask(me, "configs", &format!("topic={topic} key=retention.ms value=86400000"))
    }
}

/// The same outcome, its detail headed by the step that it belongs to.
pub fn prefix(step: &str, outcome: Outcome) -> Outcome {
    Outcome { detail: format!("{step}: {}", outcome.detail), ..outcome }
}
