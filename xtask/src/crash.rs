//! `cargo xtask crash`: the release binary as a process under real faults, with real clients.
//!
//! Owns the list of cases, what each needs of the machine, and the verdicts. A case ends in one of two ways: every record
//! that was acknowledged is read back, once, in order, and nothing that was not sent; or a refusal that names what is wrong.
//! All else fails the run. What a case draws follows from its seed, so that a round can be repeated, as far as processes can.
//! Mounts are made in a mount namespace of this command's own, which ends with it, however it ends.

mod broker;
pub mod clock;
mod copy;
mod damage;
pub mod draw;
pub mod full;
mod kill;
pub mod ledger;
pub mod load;
mod power;
mod powerfs;
mod session;
pub mod syncs;
pub mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::interop::broker::scratch;
use crate::toolbox;
use ledger::Ledger;
use load::{Built, Programs};

/// Options of `cargo xtask crash`.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds of the cases that are quick; the slow ones run a part of these
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Only these cases (several with commas); each runs all the rounds
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    only: Vec<String>,
    /// The seed of the first round, each further one has the next; without it a new one
    #[arg(long)]
    seed: Option<u64>,
    /// The short form for CI: few rounds of few cases, in two minutes
    #[arg(long)]
    quick: bool,
    /// The binary; otherwise the release binary of this checkout is built
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Our own client (the example `driver` of crates/client); otherwise it is built
    #[arg(long)]
    driver: Option<PathBuf>,
    /// Show the cases and run none
    #[arg(long)]
    list: bool,
}

/// A case.
struct Case {
    name: &'static str,
    what: &'static str,
    /// Rounds when `--rounds` says so many.
    rounds: fn(u64) -> u64,
    /// Rounds of the short form.
    quick: u64,
    /// What the machine must have.
    needs: fn() -> Result<()>,
    run: fn(&Context, u64) -> Result<Tally>,
}

const CASES: [Case; 10] = [
    Case {
        name: "kill",
        what: "kill -9 under load of three client families and a group",
        rounds: |n| n,
        quick: 3,
        needs: || Ok(()),
        run: kill::kill,
    },
    Case {
        name: "pause",
        what: "SIGSTOP for ten seconds, longer than a group member's session",
        rounds: |n| n.div_ceil(10),
        quick: 0,
        needs: || Ok(()),
        run: kill::pause,
    },
    Case {
        name: "power-synced",
        what: "the power goes; the disk forgets what was not synced; flush.messages=1",
        rounds: |n| n,
        quick: 3,
        needs: powerfs::needs,
        run: power::synced,
    },
    Case {
        name: "power",
        what: "the same with a flush a second: what was flushed stays, nothing wrong is served",
        rounds: |n| n,
        quick: 2,
        needs: powerfs::needs,
        run: power::unsynced,
    },
    Case {
        name: "bad-sync",
        what: "fsync fails with EIO; flush.messages=1",
        rounds: |n| n.div_ceil(2),
        quick: 1,
        needs: syncs::needs,
        run: syncs::failing,
    },
    Case {
        name: "slow-sync",
        what: "every fsync takes up to half a second, with and without a kill; flush.messages=1",
        rounds: |n| n.div_ceil(4),
        quick: 0,
        needs: syncs::needs,
        run: syncs::slow,
    },
    Case {
        name: "full-disk",
        what: "a disk of 64 MiB fills up and is emptied again",
        rounds: |n| n.div_ceil(4),
        quick: 0,
        needs: full::needs,
        run: full::run,
    },
    Case {
        name: "clock",
        what: "the time of day jumps an hour each way",
        rounds: |n| n.div_ceil(10),
        quick: 0,
        needs: clock::needs,
        run: clock::run,
    },
    Case {
        name: "copy",
        what: "the data directory is copied while the broker runs, and started elsewhere",
        rounds: |n| n,
        quick: 2,
        needs: || Ok(()),
        run: copy::run,
    },
    Case {
        name: "damage",
        what: "a flipped bit in a file of every kind, a deleted index; stopped and killed",
        rounds: |n| n.max(damage::ALL),
        quick: 4,
        needs: || Ok(()),
        run: damage::run,
    },
];

/// What every case gets.
pub struct Context {
    bin: PathBuf,
    programs: Programs,
    seed: u64,
    scratch: PathBuf,
}

impl Context {
    /// The folder of a case.
    fn folder(&self, case: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(case);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Says how far a case is.
    fn tell(&self, case: &str, round: u64, rounds: u64, ledger: &Ledger) {
        let (seed, acked, read) = (self.seed + round, ledger.acked, ledger.read());
        eprintln!("{case} {}/{rounds} seed {seed}: {acked} acknowledged, {read} read", round + 1);
    }
}

/// What a case found.
#[derive(Debug, Default)]
pub struct Tally {
    rounds: u64,
    acked: u64,
    read: u64,
    problems: Vec<String>,
    /// Refusals that were met and are as they should be, and other remarks.
    notes: Vec<String>,
}

impl Tally {
    /// After so many rounds.
    fn of(rounds: u64, ledger: &Ledger) -> Self {
        Self {
            rounds,
            acked: ledger.acked,
            read: ledger.read(),
            problems: ledger.problems(),
            notes: Vec::new(),
        }
    }
}

/// How a case ended.
enum Verdict {
    Held,
    Skipped(String),
    Broken(Vec<String>),
}

struct Row {
    name: &'static str,
    tally: Tally,
    took: Duration,
    verdict: Verdict,
}

/// The environment variable that says that this process has its own mount namespace.
const INSIDE: &str = "XTASK_CRASH_INSIDE";

/// Runs the cases; an error when one failed.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    for name in &args.only {
        if !CASES.iter().any(|case| case.name == name) {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!("no case `{name}`; there are {}", names.join(", "));
        }
    }
    if args.list {
        for case in &CASES {
            println!("{:<14} {}", case.name, case.what);
        }
        return Ok(());
    }
    if let Some(ended) = inside_own_namespace()? {
        ensure!(ended, "a case failed; its report is above");
        return Ok(());
    }
    let context = prepare(root, args)?;
    let began = Instant::now();
    let wanted = CASES.iter().filter(|case| match args.only.is_empty() {
        true => !args.quick || case.quick > 0,
        false => args.only.iter().any(|name| name == case.name),
    });
    let rows: Vec<Row> = wanted.map(|case| take(case, args, &context)).collect();
    table(&rows, &context, began.elapsed());
    let failed: Vec<&str> =
        rows.iter().filter(|row| matches!(row.verdict, Verdict::Broken(_))).map(|row| row.name).collect();
    if failed.is_empty() {
        std::fs::remove_dir_all(&context.scratch)?;
        return Ok(());
    }
    bail!("failed: {}; the files are in {}", failed.join(", "), context.scratch.display())
}

/// Runs this program again in a mount namespace of its own, if it may have one; how that ended.
fn inside_own_namespace() -> Result<Option<bool>> {
    let is_root = rustix::process::geteuid().is_root();
    if std::env::var_os(INSIDE).is_some() || !is_root || toolbox::find("unshare").is_none() {
        return Ok(None);
    }
    let mut own = Command::new("unshare");
    own.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    own.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Ok(Some(own.status().context("cannot run unshare")?.success()))
}

fn prepare(root: &Path, args: &Args) -> Result<Context> {
    let Built { bin, driver } = Built::obtain(root, &args.bin, &args.driver)?;
    let programs = Programs::obtain(driver, &load::FAMILIES)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(now.as_secs() % 1_000_000);
    for missing in &programs.missing {
        println!("crash: SKIPPED, no writer of {missing}");
    }
    Ok(Context { bin, programs, seed, scratch: scratch("crash")? })
}

fn take(case: &'static Case, args: &Args, context: &Context) -> Row {
    let began = Instant::now();
    let rounds = match (args.quick, args.only.is_empty()) {
        (true, _) => case.quick.max(1),
        (false, true) => (case.rounds)(args.rounds).max(1),
        (false, false) => args.rounds,
    };
    eprintln!("== {}: {}", case.name, case.what);
    let (tally, verdict) = match (case.needs)() {
        Err(why) => (Tally::default(), Verdict::Skipped(format!("{why:#}"))),
        Ok(()) => match (case.run)(context, rounds) {
            Ok(tally) if tally.problems.is_empty() => (tally, Verdict::Held),
            Ok(mut tally) => {
                let problems = std::mem::take(&mut tally.problems);
                (tally, Verdict::Broken(problems))
            }
            Err(why) => (Tally::default(), Verdict::Broken(vec![format!("{why:#}")])),
        },
    };
    let row = Row { name: case.name, tally, took: began.elapsed(), verdict };
    if let Verdict::Broken(problems) = &row.verdict {
        eprintln!("== {} FAILED:\n    {}", case.name, problems.join("\n    "));
    }
    row
}

fn table(rows: &[Row], context: &Context, took: Duration) {
    println!("\n{:<14} {:>6} {:>12} {:>12} {:>6}  verdict", "case", "rounds", "acknowledged", "read", "time");
    for Row { name, tally, took, verdict } in rows {
        let verdict = match verdict {
            Verdict::Held => "ok".to_owned(),
            Verdict::Skipped(_) => "SKIPPED".to_owned(),
            Verdict::Broken(_) => "FAILED".to_owned(),
        };
        let (rounds, acked, read, seconds) = (tally.rounds, tally.acked, tally.read, took.as_secs());
        println!("{name:<14} {rounds:>6} {acked:>12} {read:>12} {seconds:>4} s  {verdict}");
    }
    for row in rows {
        for note in &row.tally.notes {
            println!("{}: {note}", row.name);
        }
        match &row.verdict {
            Verdict::Held => {}
            Verdict::Skipped(why) => println!("crash {}: SKIPPED, {why}", row.name),
            Verdict::Broken(problems) => println!("{}: FAILED\n    {}", row.name, problems.join("\n    ")),
        }
    }
    println!(
        "seed {} (again: cargo xtask crash --seed SEED --rounds 1 --only CASE), {} s",
        context.seed,
        took.as_secs()
    );
}
