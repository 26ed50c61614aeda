//! `cargo xtask interop`: real Kafka clients and tools against a broker.
//!
//! Owns starting the broker, running every family's cases side by side, each bounded in time, and the verdict. The
//! client programs are in `interop/`. Every process started here is ended through its handle.

pub mod broker;
mod cases;
pub mod client;
mod debian;
pub mod families;
mod group;
mod kcat;
mod probes;
pub mod process;
mod report;
mod rolling;
pub mod rule;
mod tools;

use anyhow::{Result, bail};
use broker::{Against, Broker};
use cases::{Bench, CASES};
use client::{Client, Outcome, Verdict};
use report::{Outcomes, Verdicts};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    job: Option<Job>,
    /// The broker: `kafka` or `moldau`, started for the run, or HOST:PORT
    #[arg(long, default_value = "moldau", global = true)]
    against: Against,
    /// Only these client families (several with commas), `tools` or `probes`
    #[arg(long, value_delimiter = ',')]
    client: Vec<String>,
    /// Only these cases (several with commas)
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,
    /// A part that takes a third of the time, for CI
    #[arg(long)]
    quick: bool,
    /// Three nodes instead of one, and topics with three replicas
    #[arg(long)]
    cluster: bool,
    /// Three nodes that are restarted one after the other while the cases run
    #[arg(long)]
    rolling: bool,
    /// The binary for `--against moldau`; otherwise the release binary of this checkout
    #[arg(long, global = true)]
    bin: Option<PathBuf>,
    /// Seconds that one step of a case may take
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Write every outcome to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keep what a real Kafka did in interop/kafka-verdicts.json (with --against kafka)
    #[arg(long)]
    record: bool,
}

/// What to do instead of every case.
#[derive(clap::Subcommand)]
enum Job {
    /// Debian's package index in through one family, out through another, across a kill -9 of the broker
    Debian(debian::Options),
}

/// Families of `--quick`: one of each code base.
const QUICK: [&str; 6] = ["java-4.3", "confluent", "franz-go", "sarama", "kafkajs", "aiokafka"];

/// Runs the command; an error when a case failed.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Job::Debian(options)) = &args.job {
        return debian::run(args, options);
    }
    check_names(args)?;
    let names = families::NAMES.iter().copied().filter(|name| args.wants_client(name));
    let replicas = if args.is_cluster() { 3 } else { 1 };
    let clients = names.map(|name| families::prepare(name, replicas)).collect::<Result<Vec<Client>>>()?;
    let dir = broker::scratch("interop")?;
    let bin = args.binary()?;
    let broker = match args.is_cluster() {
        true => Broker::start_cluster(&bin, &dir)?,
        false => Broker::start(&args.against, &bin, &dir)?,
    };
    let began = Instant::now();
    let bench = bench(args, clients, &broker);
    let over = AtomicBool::new(false);
    let rolled = broker.cluster().filter(|_| args.rolling);
    let outcomes = std::thread::scope(|scope| -> Result<Outcomes> {
        let rolling = rolled.map(|cluster| scope.spawn(|| rolling::restart_in_turn(cluster, &bin, &over)));
        let outcomes = outcomes(args, &bench, &broker, &dir);
        over.store(true, Ordering::Relaxed);
        if let Some(rolling) = rolling {
            let restarts = rolling.join().unwrap_or_else(|_| bail!("the thread of the restarts failed"))?;
            println!("{restarts} times a node was restarted meanwhile");
        }
        outcomes
    })?;
    println!("{} s against {:?} at {}", began.elapsed().as_secs(), args.against, broker.bootstrap);
    let failed = conclude(args, outcomes)?;
    if failed > 0 {
        for line in broker.tail() {
            println!("    broker: {line}");
        }
        bail!("{failed} cases failed; the broker's files are in {}", dir.display());
    }
    drop(broker);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn outcomes(args: &Args, bench: &Bench, broker: &Broker, dir: &Path) -> Result<Outcomes> {
    std::thread::scope(|scope| -> Result<Outcomes> {
        let probing = scope.spawn(|| probe(args, bench));
        let mut outcomes = all_cases(bench, &args.wanted_cases());
        if args.wants(report::TOOLS) {
            let mine = outcomes.entry(report::TOOLS.into()).or_default();
            tools::run(
                &broker.bootstrap,
                &bench.tag,
                broker.data(),
                dir,
                bench.patience,
                |name, outcome| {
                    tell(report::TOOLS, name, &outcome);
                    mine.insert(name.into(), outcome);
                },
            )?;
        }
        if let Some(outcome) = probing.join().unwrap_or_else(|_| bail!("the thread of the probes failed"))? {
            outcomes.entry(probes::PROBES.into()).or_default().insert("answers".into(), outcome);
        }
        Ok(outcomes)
    })
}

/// Asks the probes, or keeps a real Kafka's answers.
fn probe(args: &Args, bench: &Bench) -> Result<Option<Outcome>> {
    if !args.wants(probes::PROBES) {
        return Ok(None);
    }
    if args.record {
        return probes::record(&bench.bootstrap, &bench.tag, bench.lag).map(|()| None);
    }
    let outcome = probes::run(&bench.bootstrap, &bench.tag, bench.lag)?;
    tell(probes::PROBES, "answers", &outcome);
    Ok(Some(outcome))
}

impl Args {
    /// The binary of a node, as an absolute path.
    fn binary(&self) -> Result<PathBuf> {
        let target = || {
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
        };
        let bin = self.bin.clone().unwrap_or_else(|| target().join("release/moldau"));
        Ok(std::path::absolute(bin)?)
    }

    fn wants_client(&self, name: &str) -> bool {
        if self.client.is_empty() {
            !self.quick || QUICK.contains(&name)
        } else {
            self.client.iter().any(|c| c == name)
        }
    }

    fn is_cluster(&self) -> bool {
        self.cluster || self.rolling
    }

    /// Whether the tools or the probes are asked for. What the probes are answered was recorded on a node that is alone.
    fn wants(&self, what: &str) -> bool {
        if self.is_cluster() && what == probes::PROBES {
            return false;
        }
        let all = self.client.is_empty() && self.case.is_empty();
        all || self.client.iter().any(|c| c == what)
    }

    fn wanted_cases(&self) -> Vec<&'static str> {
        CASES.iter().copied().filter(|c| self.case.is_empty() || self.case.iter().any(|w| w == c)).collect()
    }
}

fn check_names(args: &Args) -> Result<()> {
    for name in &args.client {
        if ![report::TOOLS, probes::PROBES].contains(&name.as_str())
            && !families::NAMES.contains(&name.as_str())
        {
            bail!("no client `{name}`; there are {}, tools and probes", families::NAMES.join(", "));
        }
    }
    if args.is_cluster() && args.against != Against::Moldau {
        bail!(
            "--cluster and --rolling start nodes of this project; name their addresses with --against HOST:PORT,HOST:PORT for others"
        );
    }
    if args.record && args.against != Against::Kafka {
        bail!("--record keeps what a real Kafka did: it needs --against kafka");
    }
    Ok(())
}

fn bench(args: &Args, clients: Vec<Client>, broker: &Broker) -> Bench {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let t0 = u64::try_from(now.as_millis()).unwrap_or_default().saturating_sub(3_600_000);
    Bench {
        bootstrap: broker.bootstrap.clone(),
        data: clients.iter().map(|_| OnceLock::new()).collect(),
        clients,
        tag: format!("i{}", now.as_secs() % 1_000_000),
        t0,
        lag: Duration::from_millis(if args.against == Against::Kafka { 1000 } else { 0 }),
        patience: Duration::from_secs(args.timeout),
    }
}

/// Every family in a thread of its own, one case after the other.
fn all_cases(bench: &Bench, cases: &[&'static str]) -> Outcomes {
    let outcomes = Mutex::new(Outcomes::new());
    std::thread::scope(|scope| {
        for (me, client) in bench.clients.iter().enumerate() {
            let outcomes = &outcomes;
            scope.spawn(move || {
                for case in cases {
                    let mut outcome = bench.run(me, case, 1);
                    if outcome.verdict == Verdict::Fail && !bench.lag.is_zero() {
                        // A loaded Kafka may lag by seconds behind what it answered; only what it never does counts.
                        tell(client.name, case, &outcome);
                        outcome = bench.run(me, case, 2);
                    }
                    tell(client.name, case, &outcome);
                    if let Ok(mut all) = outcomes.lock() {
                        all.entry(client.name.into()).or_default().insert((*case).into(), outcome);
                    }
                }
            });
        }
    });
    bench.clients.iter().for_each(Client::leave);
    outcomes.into_inner().unwrap_or_default()
}

fn tell(client: &str, case: &str, outcome: &Outcome) {
    let detail = outcome.detail.lines().next().unwrap_or_default();
    eprintln!("{client:>10} {case:<12} {:?} {} ms  {detail}", outcome.verdict, outcome.ms);
}

fn conclude(args: &Args, mut outcomes: Outcomes) -> Result<usize> {
    let mut verdicts = Verdicts::load()?;
    if args.record {
        verdicts.record(&outcomes)?;
    }
    report::excuse(&mut outcomes, &verdicts);
    let beside = (args.against != Against::Kafka).then_some(&verdicts);
    if beside.is_some() {
        println!("each cell: this broker / Apache Kafka {}", verdicts.kafka);
    }
    report::table(&outcomes, &families::NAMES, &CASES, beside);
    println!();
    report::tools_table(&outcomes, beside);
    if let Some(path) = &args.json {
        report::write_json(path, &format!("{:?}", args.against), &outcomes)?;
    }
    Ok(report::summary(&outcomes))
}
