//! `moldau-bench`: the load generator and the floor program by hand, and the smoke run of `cargo xtask bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use moldau_bench::drain::{self, Drain};
use moldau_bench::floor::{self, Kind};
use moldau_bench::frames::{Frames, Shape};
use moldau_bench::link::Link;
use moldau_bench::pump::{self, Bounds, Load, Tally};
use moldau_bench::report::table;
use moldau_bench::smoke::{self, Scratch, Smoke};

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
    /// Floors, legs, start-up and memory, as a table and into smoke.md and smoke.json
    Smoke {
        /// The moldau binary
        #[arg(long)]
        broker: PathBuf,
        #[command(flatten)]
        bounds: Limits,
        /// Where files are written meanwhile, in a folder of their own
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// Folder for smoke.md and smoke.json; without it the page is only printed
        #[arg(long)]
        out: Option<PathBuf>,
        /// Starts of each kind
        #[arg(long, default_value_t = 5)]
        starts: usize,
        /// Idle connections
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
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
        Command::Serve { kind, bytes, dir } => floor::serve(kind, bytes, &dir),
        Command::Floor { bounds, dir } => {
            let scratch = Scratch::below(&dir)?;
            let rows = smoke::floors(&scratch.0, bounds.bounds())?;
            print!("{}", table("floor", &rows));
            Ok(())
        }
        Command::Blast(blast) => load(blast),
        Command::Smoke { broker, bounds, dir, out, starts, connections } => {
            let program = broker.canonicalize()?;
            let report = smoke::run(&Smoke { program, dir, bounds: bounds.bounds(), starts, connections })?;
            print!("{}", report.page());
            out.map_or(Ok(()), |out| report.write(&out))
        }
    }
}

fn load(blast: Blast) -> Result<()> {
    let tally = match blast {
        Blast::Produce { target, bounds, record_size, batch_size, acks, in_flight } => {
            ensure!(acks != 0, "without answers there is nothing to wait for: acks must be 1 or -1");
            Link::open(target.address)?.topic(&target.topic, target.partitions)?;
            let shape = Shape { record: record_size, batch: batch_size };
            let frames = Frames::produce(&target.topic, target.partitions, acks, shape)?;
            let load = Load { connections: target.connections, in_flight };
            pump::run(target.address, load, &frames, bounds.bounds(), pump::produced)?
        }
        Blast::Fetch { target, bounds, fetch_size } => {
            let Target { address, topic, partitions, connections } = target;
            drain::run(
                address,
                &Drain { topic, partitions, connections, fetch: fetch_size },
                bounds.bounds(),
            )?
        }
    };
    print(&tally);
    Ok(())
}

fn print(tally: &Tally) {
    let seconds = tally.elapsed.as_secs_f64();
    println!(
        "{} requests, {:.3} GB in {seconds:.2} s: {:.0} MB/s, {:.0} requests/s; latency µs p50 {:.0} p99 {:.0} p99.9 {:.0}",
        tally.requests,
        tally.bytes as f64 / moldau_bench::GB,
        tally.bytes as f64 / 1e6 / seconds,
        tally.requests as f64 / seconds,
        tally.micros(0.5),
        tally.micros(0.99),
        tally.micros(0.999),
    );
}
