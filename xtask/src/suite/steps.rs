//! The steps of `cargo xtask test`, the quick ones first.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use super::Place;

/// One step.
pub struct Step {
    /// What `--only` and `--skip` call it.
    pub name: &'static str,
    /// What it makes sure of.
    pub what: &'static str,
    /// How long it may take on two cores before it is ended and counts as failed.
    pub minutes: u64,
    /// What it runs, one after the other.
    pub programs: fn(&Place) -> Vec<Command>,
}

impl Step {
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }
}

/// How long all steps together may take; the target on two cores is 40 minutes.
pub const WHOLE: Duration = Duration::from_secs(75 * 60);

/// Cases of each property in the fuzz step; a plain `cargo test` takes proptest's 256.
const FUZZ_CASES: &str = "3000";
/// Mutated inputs that a quick target of `hostile` gets.
const FUZZ_ROUNDS: &str = "5000";

/// All of them, in the order in which they run.
pub const ALL: [Step; 16] = [
    Step { name: "format", what: "rustfmt changes nothing", minutes: 2, programs: format },
    Step {
        name: "generated",
        what: "generated code is what the schemas say",
        minutes: 2,
        programs: |p| vec![own(p, ["gen", "--check"])],
    },
    Step {
        name: "arch",
        what: "dependencies are what arch.toml allows",
        minutes: 2,
        programs: |p| vec![own(p, ["arch"])],
    },
    Step {
        name: "licences",
        what: "dependencies are what deny.toml allows",
        minutes: 10,
        programs: |p| vec![own(p, ["deny"])],
    },
    Step { name: "clippy", what: "no warning anywhere", minutes: 12, programs: clippy },
    Step {
        name: "docs",
        what: "generated pages are what the code says",
        minutes: 10,
        programs: |p| vec![own(p, ["docs", "--check"])],
    },
    Step { name: "unit", what: "unit tests, properties, transcripts", minutes: 20, programs: unit },
    Step {
        name: "oracle",
        what: "the codec agrees with an independent one",
        minutes: 6,
        programs: |p| vec![own(p, ["oracle"])],
    },
    Step {
        name: "fuzz",
        what: "everything that reads outside bytes, kept and random ones",
        minutes: 15,
        programs: fuzz,
    },
    Step { name: "release", what: "the binary and the benches build", minutes: 15, programs: release },
    Step {
        name: "bench",
        what: "processor time beside the floor of the machine",
        minutes: 10,
        programs: |p| vec![own(p, ["bench", "smoke", "--check"])],
    },
    Step { name: "sim", what: "simulated clusters under faults, checked", minutes: 15, programs: sim },
    Step { name: "interop", what: "real Kafka clients and tools", minutes: 15, programs: interop },
    Step {
        name: "debian",
        what: "a package index through two clients and a kill -9",
        minutes: 10,
        programs: debian,
    },
    Step {
        name: "crash",
        what: "kills, power losses, failed syncs and damage under load",
        minutes: 6,
        programs: crash,
    },
    Step {
        name: "chaos",
        what: "three nodes that are killed, cut off, delayed and filled up under load",
        minutes: 9,
        programs: chaos,
    },
];

fn cargo<const N: usize>(place: &Place, args: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(&place.root);
    command
}

/// Another command of this program.
fn own<const N: usize>(place: &Place, args: [&str; N]) -> Command {
    let mut command = Command::new(&place.me);
    command.args(args).current_dir(&place.root);
    command
}

fn format(place: &Place) -> Vec<Command> {
    vec![
        cargo(place, ["fmt", "--all", "--check"]),
        cargo(place, ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]),
    ]
}

fn clippy(place: &Place) -> Vec<Command> {
    let planted = ["clippy", "-p", "moldau-sim", "--features", "planted", "--all-targets", "--locked"];
    let mut planted = cargo(place, planted);
    planted.args(["--", "-D", "warnings"]);
    vec![
        cargo(place, ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        planted,
    ]
}

fn unit(place: &Place) -> Vec<Command> {
    let planted = |package, test| {
        cargo(place, ["test", "--locked", "-p", package, "--features", "planted", "--test", test])
    };
    vec![
        cargo(place, ["test", "--workspace", "--locked", "--no-fail-fast"]),
        planted("moldau-partition", "cluster"),
        planted("moldau-controller", "it"),
    ]
}

fn fuzz(place: &Place) -> Vec<Command> {
    let mut command = cargo(place, ["test", "--locked", "-p", "moldau-wire", "-p", "moldau-batch"]);
    command.args(["--test", "hostile", "--test", "properties", "--test", "allocation"]);
    command.env("PROPTEST_CASES", FUZZ_CASES);
    let mut hostile = cargo(place, ["test", "--locked", "-p", "moldau-hostile", "--test", "stable"]);
    hostile.env("HOSTILE_ROUNDS", FUZZ_ROUNDS);
    // The fuzzer's own files: they must compile on this toolchain too, though they run on a nightly one.
    let wrappers = cargo(place, ["check", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bins"]);
    vec![command, hostile, wrappers]
}

fn release(place: &Place) -> Vec<Command> {
    vec![cargo(place, ["build", "--release", "--locked", "-p", "moldau-cli", "-p", "moldau-bench"])]
}

fn sim(place: &Place) -> Vec<Command> {
    let mut seeds = own(place, ["sim", "--seeds"]);
    seeds.arg(place.seeds.to_string());
    vec![seeds, own(place, ["sim", "--planted"])]
}

fn interop(place: &Place) -> Vec<Command> {
    with_binary(place, own(place, ["interop", "--quick"]))
}

fn debian(place: &Place) -> Vec<Command> {
    with_binary(place, own(place, ["interop", "debian"]))
}

fn crash(place: &Place) -> Vec<Command> {
    with_binary(place, own(place, ["crash", "--quick"]))
}

fn chaos(place: &Place) -> Vec<Command> {
    with_binary(place, own(place, ["chaos", "--minutes", "3"]))
}

/// Builds the release binary, unless it is there, and tells `command` where it is.
fn with_binary(place: &Place, mut command: Command) -> Vec<Command> {
    let binary = place.target.join("release/moldau");
    command.args([OsStr::new("--bin"), binary.as_os_str()]);
    vec![cargo(place, ["build", "--release", "--locked", "-p", "moldau-cli"]), command]
}
