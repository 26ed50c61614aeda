//! This side of the codec oracle; `cargo xtask oracle` runs it against the other, `oracle/kio_oracle.py`.
//!
//! `oracle emit SEED ROUNDS` writes random messages of every kind and version as JSON lines; `oracle check` reads such
//! lines from another codec and compares values and bytes with what this one makes of them.

#[path = "../tests/walk/mod.rs"]
mod walk;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::ExitCode;

use moldau_base::Rng;
use moldau_wire::Message;
use serde_json::{Value, json};
use walk::random::random;
use walk::show::{hex, show, unhex};
use walk::{Kind, Visitor, Walk, visit_all};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["emit", seed, rounds] => emit(seed.parse().unwrap_or(1), rounds.parse().unwrap_or(1)),
        ["check"] => check(),
        _ => {
            eprintln!("usage: oracle emit SEED ROUNDS | oracle check");
            ExitCode::from(2)
        }
    }
}

struct Emit<W> {
    rng: Rng,
    rounds: u32,
    out: W,
}

impl<W: Write> Visitor for Emit<W> {
    fn visit<M: Message + Walk>(&mut self, kind: Kind) {
        let (kind, api) = match kind {
            Kind::Request(api) => ("request", api),
            Kind::Response(api) => ("response", api),
            Kind::Data => ("data", -1),
        };
        for version in M::VERSIONS.iter() {
            for _ in 0..self.rounds {
                let message: M = random(&mut self.rng, version);
                let bytes = message.to_bytes(version).expect("a message of this version");
                let line = json!({
                    "name": M::NAME, "kind": kind, "api": api, "version": version,
                    "hex": hex(&bytes), "value": show(&message, version),
                });
                writeln!(self.out, "{line}").expect("standard output");
            }
        }
    }
}

fn emit(seed: u64, rounds: u32) -> ExitCode {
    let out = std::io::BufWriter::new(std::io::stdout().lock());
    visit_all(&mut Emit { rng: Rng::seeded(seed), rounds, out });
    ExitCode::SUCCESS
}

/// Compares the lines of one message type; keeps what differs.
#[derive(Default)]
struct Check {
    lines: BTreeMap<String, Vec<Value>>,
    checked: usize,
    wrong: usize,
}

impl Check {
    fn one<M: Message + Walk>(&mut self, line: &Value) {
        let version = line["version"].as_i64().and_then(|v| i16::try_from(v).ok()).unwrap_or(-1);
        let bytes = unhex(line["hex"].as_str().unwrap_or_default());
        self.checked += 1;
        let problem = match M::from_bytes(bytes.clone().into(), version) {
            Err(error) => error.to_string(),
            Ok(message) if show(&message, version) != line["value"] => {
                format!("values differ:\n  ours   {}\n  theirs {}", show(&message, version), line["value"])
            }
            Ok(message) => match message.to_bytes(version) {
                Ok(again) if again == bytes => return,
                Ok(again) => format!("bytes differ:\n  ours   {}\n  theirs {}", hex(&again), hex(&bytes)),
                Err(error) => error.to_string(),
            },
        };
        self.wrong += 1;
        eprintln!("{} v{version}: {problem}", M::NAME);
    }
}

impl Visitor for Check {
    fn visit<M: Message + Walk>(&mut self, _: Kind) {
        for line in self.lines.remove(M::NAME).unwrap_or_default() {
            self.one::<M>(&line);
        }
    }
}

fn check() -> ExitCode {
    let mut check = Check::default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let name = line["name"].as_str().unwrap_or_default().to_owned();
        check.lines.entry(name).or_default().push(line);
    }
    visit_all(&mut check);
    let unread: usize = check.lines.values().map(Vec::len).sum();
    eprintln!(
        "ours: {} messages read and written back, {} differ, {unread} unread",
        check.checked, check.wrong
    );
    ExitCode::from(u8::from(check.wrong + unread > 0 || check.checked == 0))
}
