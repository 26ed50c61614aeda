//! `moldau-bench`: the load generator and the floor program by hand, and the runs of `cargo xtask bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use moldau_bench::alone::Alone;
use moldau_bench::contender::{Contender, Kafka};
use moldau_bench::drain::{self, Drain};
use moldau_bench::floor::{self, Kind};
use moldau_bench::frames::{Frames, Shape};
use moldau_bench::idle::Idle;
use moldau_bench::link::Link;
use moldau_bench::paced::{self, Pace, Source};
use moldau_bench::paired::Slices;
use moldau_bench::pump::{self, Bounds, Load, Tally};
use moldau_bench::recovery::Recovery;
use moldau_bench::results::Results;
use moldau_bench::run::{Plan, Scratch};
use moldau_bench::{compare, floors, leash, page};

/// Load on a Kafka broker, and the floor of the machine
#[derive(Parser)]
#[command(name = "moldau-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the work of a broker costs here without a broker
    Floor {
        #[command(flatten)]
        bounds: Limits,
        /// Where files are written meanwhile, in a folder of their own
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Load on a broker that runs already
    #[command(subcommand)]
    Blast(Blast),
    /// A broker, beside the floor of the machine and beside Apache Kafka where its jars are given
    #[command(args_override_self = true)]
    Run(Box<Run>),
    /// Fail where a run costs more processor time than an earlier one
    Compare {
        /// JSON of the earlier run
        old: PathBuf,
        /// JSON of the later run
        new: PathBuf,
    },
    /// Fail where a run costs more processor time than so many times the floor of its machine
    Check {
        /// JSON of the run
        results: PathBuf,
    },
    /// Ends the brokers of a run that was killed
    #[command(hide = true)]
    Leash,
    /// The serving side of a floor
    #[command(hide = true)]
    Serve {
        kind: Kind,
        #[arg(long)]
        bytes: usize,
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Name of the page
    #[arg(long, default_value = "bench")]
    name: String,
    /// The command that the page says it was made by
    #[arg(long, default_value = "moldau-bench run")]
    command: String,
    /// The moldau binary
    #[arg(long)]
    broker: PathBuf,
    /// The folder of Kafka's jars
    #[arg(long)]
    kafka_libs: Option<PathBuf>,
    /// Kafka's heap
    #[arg(long, default_value = "1g")]
    kafka_heap: String,
    /// A further setting of Kafka, KEY=VALUE
    #[arg(long)]
    kafka_set: Vec<String>,
    /// Only these legs (several with commas)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Megabytes of payload of a slice, unless its time is over sooner
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Seconds of a slice, unless its volume is done sooner
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of slices of each leg
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of warm-up before each leg
    #[arg(long, default_value_t = 6)]
    warm_up: u64,
    /// Starts of each kind
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Idle connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Idle partitions
    #[arg(long, default_value_t = 10_000)]
    partitions: usize,
    /// Gigabytes that a killed broker has to recover
    #[arg(long, default_value_t = 10.0)]
    recovery: f64,
    /// Measure what is asked of the broker alone, and nothing else
    #[arg(long)]
    alone: bool,
    /// Gigabytes of the cold log of W9
    #[arg(long, default_value_t = 10.0)]
    cold: f64,
    /// Seconds of each phase of W9 and W13
    #[arg(long, default_value_t = 20)]
    phase: u64,
    /// Minutes of W26
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Seconds over which an idle broker is watched
    #[arg(long, default_value_t = 30)]
    watch: u64,
    /// Where files are written meanwhile, in a folder of their own
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Folder for the page and its JSON; without it the page is only printed
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Blast {
    /// Send the same Produce requests over and over
    Produce {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        bounds: Limits,
        /// Bytes of a record's value
        #[arg(long, default_value_t = 1024)]
        record_size: usize,
        /// Most bytes of a batch; 0 for one record in each
        #[arg(long, default_value_t = 16 * 1024)]
        batch_size: usize,
        /// 1 or -1
        #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
        acks: i16,
        /// Requests unanswered on each connection
        #[arg(long, default_value_t = 8)]
        in_flight: usize,
    },
    /// Fetch what `blast produce` wrote, and throw it away
    Fetch {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        bounds: Limits,
        /// Most bytes of a fetch
        #[arg(long, default_value_t = 1 << 20)]
        fetch_size: i32,
        /// client.rack: with it a follower may be asked as well
        #[arg(long, default_value = "")]
        rack: String,
    },
    /// Produce into a fresh topic at a fixed rate, and consume it: how long after it was due each batch is consumed
    Paced {
        #[command(flatten)]
        target: Target,
        /// Bytes of a record's value
        #[arg(long, default_value_t = 1024)]
        record_size: usize,
        /// Most bytes of a batch; 0 for one record in each
        #[arg(long, default_value_t = 0)]
        batch_size: usize,
        /// Batches in a second
        #[arg(long, default_value_t = 1000)]
        per_second: u32,
        /// 1 or -1
        #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
        acks: i16,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Consume from this broker instead
        #[arg(long)]
        source: Option<SocketAddr>,
        /// client.rack: with it a follower may be asked as well
        #[arg(long, default_value = "")]
        rack: String,
    },
}

#[derive(Args)]
struct Target {
    /// The broker
    #[arg(long, default_value = "127.0.0.1:9092")]
    address: SocketAddr,
    /// Made unless it is there
    #[arg(long, default_value = "bench")]
    topic: String,
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    #[arg(long, default_value_t = 2)]
    connections: usize,
}

#[derive(Args)]
struct Limits {
    /// Megabytes of payload of each leg, unless its time is over sooner
    #[arg(long, default_value_t = 2000)]
    megabytes: u64,
    /// Seconds of each leg, unless its volume is done sooner
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

impl Limits {
    fn bounds(&self) -> Bounds {
        Bounds { bytes: self.megabytes * 1_000_000, time: Duration::from_secs(self.seconds) }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Leash => leash::watch(std::io::stdin().lock()),
        Command::Serve { kind, bytes, dir } => floor::serve(kind, bytes, &dir),
        Command::Floor { bounds, dir } => {
            leash::begin()?;
            let scratch = Scratch::below(&dir)?;
            let slices = Slices { pairs: 1, bounds: bounds.bounds(), warm_up: Duration::ZERO };
            print!("{}", page::rates(&floors::run(&scratch.0, slices)?));
            Ok(())
        }
        Command::Blast(blast) => load(blast),
        Command::Run(run) => measure(*run),
        Command::Compare { old, new } => compare::compare(&Results::read(&old)?, &Results::read(&new)?),
        Command::Check { results } => compare::check(&Results::read(&results)?),
    }
}

fn measure(run: Run) -> Result<()> {
    leash::begin()?;
    let mut contenders = vec![Contender::Moldau { program: run.broker.canonicalize()? }];
    if let Some(libs) = run.kafka_libs {
        let libs = libs.canonicalize()?;
        contenders.push(Contender::Kafka(Kafka { libs, heap: run.kafka_heap, settings: run.kafka_set }));
    }
    let bounds = Bounds { bytes: run.megabytes * 1_000_000, time: Duration::from_secs(run.seconds) };
    let bytes = |gigabytes: f64| (gigabytes * moldau_bench::GB) as u64;
    let alone = Alone {
        cold: bytes(run.cold),
        phase: Duration::from_secs(run.phase),
        connections: run.connections,
        partitions: run.partitions,
        soak: Duration::from_secs_f64(run.minutes.max(0.1) * 60.0),
    };
    let plan = Plan {
        name: run.name,
        command: run.command,
        contenders,
        dir: run.dir,
        only: run.only,
        slices: Slices { pairs: run.pairs, bounds, warm_up: Duration::from_secs(run.warm_up) },
        starts: run.starts,
        idle: Idle {
            rounds: run.starts.min(3),
            connections: run.connections,
            partitions: run.partitions,
            watch: Duration::from_secs(run.watch),
        },
        recovery: Recovery { bytes: bytes(run.recovery), rounds: run.starts.min(2) },
        alone: run.alone.then_some(alone),
        out: run.out,
    };
    let results = moldau_bench::run::run(&plan)?;
    print!("{}", page::page(&results));
    ensure!(results.failures.is_empty(), "not everything was measured: {}", results.failures.join("; "));
    Ok(())
}

fn load(blast: Blast) -> Result<()> {
    let tally = match blast {
        Blast::Produce { target, bounds, record_size, batch_size, acks, in_flight } => {
            ensure!(acks != 0, "without answers there is nothing to wait for: acks must be 1 or -1");
            Link::open(target.address)?.topic(&target.topic, target.partitions)?;
            let shape = Shape::plain(record_size, batch_size);
            let frames = Frames::produce(&target.topic, target.partitions, acks, shape)?;
            let load = Load { connections: target.connections, in_flight };
            pump::run(target.address, load, &frames, bounds.bounds(), pump::produced)?
        }
        Blast::Fetch { target, bounds, fetch_size, rack } => {
            let Target { address, topic, partitions, connections } = target;
            let drain = Drain { topic, partitions, connections, fetch: fetch_size, rack };
            drain::run(address, &drain, bounds.bounds())?
        }
        Blast::Paced { target, record_size, batch_size, per_second, acks, seconds, source, rack } => {
            let shape = Shape::plain(record_size, batch_size);
            let pace = Pace { shape, per_second, partitions: target.partitions, acks };
            let source = Source { address: source.unwrap_or(target.address), rack: &rack };
            let time = Duration::from_secs(seconds);
            let paced = paced::run_from(source, target.address, &target.topic, pace, time, &mut |_, _| {})?;
            let late = Tally { latency: paced.late, ..Tally::new()? };
            println!("late by µs p50 {:.0} p99 {:.0}", late.micros(0.5), late.micros(0.99));
            paced.consumed
        }
    };
    print(&tally);
    Ok(())
}

fn print(tally: &Tally) {
    let seconds = tally.elapsed.as_secs_f64();
    println!(
        "{} requests, {} records, {:.3} GB in {seconds:.2} s: {:.0} MB/s, {:.0} requests/s; latency µs p50 {:.0} p99 {:.0} p99.9 {:.0}",
        tally.requests,
        tally.records,
        tally.bytes as f64 / moldau_bench::GB,
        tally.bytes as f64 / 1e6 / seconds,
        tally.requests as f64 / seconds,
        tally.micros(0.5),
        tally.micros(0.99),
        tally.micros(0.999),
    );
}
