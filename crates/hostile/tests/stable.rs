//! The targets of the fuzzer on the stable toolchain: every kept input, and a bounded number of seeded mutations of them.
//!
//! `HOSTILE_ROUNDS` says how many mutated inputs a target gets that takes a thousandth of a second or less; slower ones get their
//! share of it, and `HOSTILE_SEED` other inputs than those of seed 1. A failure prints the input; `cargo xtask fuzz TARGET --input FILE` runs one alone.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use moldau_hostile::{Mutator, TARGETS, Target, seeds};

/// Without the variable: a plain `cargo test` stays short.
const ROUNDS: u64 = 300;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The inputs that are kept for a target: those of `fuzz/seeds`, and those that are made.
fn kept(target: &Target) -> Vec<Vec<u8>> {
    let folder = fuzz().join("seeds").join(target.name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .map(|all| all.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    let mut inputs: Vec<Vec<u8>> =
        paths.iter().map(|path| fs::read(path).expect("a file that was listed")).collect();
    inputs.extend(seeds::of(target.name));
    inputs
}

fn check(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target.check(input))).is_err() {
        let path = std::env::temp_dir().join(format!("moldau-{}-{}", target.name, std::process::id()));
        fs::write(&path, input).expect("a temporary file");
        panic!("{}: the input is in {}", target.name, path.display());
    }
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let corpus = kept(target);
    assert!(!corpus.is_empty(), "{name} has no seed");
    corpus.iter().for_each(|input| check(target, input));
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let rounds: u64 = number("HOSTILE_ROUNDS").unwrap_or(ROUNDS);
    let mut mutator = Mutator::new(number("HOSTILE_SEED").unwrap_or(1));
    for _ in 0..(rounds * u64::from(target.per_mille)).div_ceil(1000) {
        check(target, &mutator.next(&corpus));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    frames requests responses log_records batch_split batch_records recovery indexes small_files quorum voters image groups config
    start broker
}

/// A target is in four lists: the crate's, this file's, and the fuzzer's files and manifest.
#[test]
fn every_target_is_everywhere() {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let all = TARGETS.iter().map(|target| target.name.to_owned()).collect::<BTreeSet<String>>();
    assert_eq!(all.len(), TARGETS.len(), "each once");
    assert_eq!(names(TESTED), all);
    let files = fs::read_dir(fuzz().join("fuzz_targets")).expect("the fuzzer's files").flatten();
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    assert_eq!(files.filter_map(|entry| stem(entry.path())).collect::<BTreeSet<String>>(), all);
    for name in &all {
        let text = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).expect("its file");
        assert!(
            text.contains(&format!("moldau_hostile::{}.check", name.to_uppercase())),
            "{name} runs another"
        );
    }
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the fuzzer's manifest");
    let bins = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(bins.map(str::to_owned).collect::<BTreeSet<String>>(), all);
}

/// docs/fuzzing.md says of every target what it proves.
#[test]
fn every_target_is_explained() {
    let page = fs::read_to_string(fuzz().join("../docs/fuzzing.md")).expect("the page about fuzzing");
    for target in TARGETS {
        let row = format!("| {} | {} |", target.name, target.proves);
        assert!(page.contains(&row), "docs/fuzzing.md lacks the row\n{row}");
    }
}

/// What is committed stays small.
#[test]
fn kept_inputs_are_small() {
    let folders =
        fs::read_dir(fuzz().join("seeds")).map(|all| all.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let mut sum = 0;
    for folder in folders {
        for file in fs::read_dir(folder.path()).expect("a folder of seeds").flatten() {
            sum += file.metadata().expect("a file").len();
        }
    }
    assert!(sum < 1 << 20, "{sum} bytes");
}
