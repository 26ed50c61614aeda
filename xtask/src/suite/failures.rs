//! Which tests failed, and what they said: read from the log of `cargo test`, where it may stand far above the end.

use std::collections::BTreeMap;

/// Most lines that are shown of all failures together.
const LINES: usize = 60;
/// Most lines of what one failed test said.
const OF_ONE: usize = 12;
/// Most characters of a line.
const WIDTH: usize = 400;

/// Where in the log of a test program a line stands.
enum Place {
    /// Among the results, one line per test.
    Results,
    /// Below `failures:`, where the names are repeated.
    Names,
    /// In the output of this test; whether in what a panic says.
    Output(String, Said),
}

#[derive(Clone, Copy)]
enum Said {
    Panic,
    Other,
}

/// The failed tests with their panics, in lines; none when no test program in `log` told of a failure.
pub fn failures(log: &str) -> Vec<String> {
    let mut reader =
        Reader { place: Place::Results, program: "", names: Vec::new(), panics: BTreeMap::new() };
    log.lines().for_each(|line| reader.read(line));
    reader.lines()
}

struct Reader<'a> {
    place: Place,
    /// What cargo runs, as it calls it.
    program: &'a str,
    /// Failed tests, each with its program, in the order in which they are heard of.
    names: Vec<String>,
    /// What they said when they panicked.
    panics: BTreeMap<String, Vec<&'a str>>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: &'a str) {
        if let Some(program) = program(line) {
            self.program = program;
            self.place = Place::Results;
        } else if line == "failures:" {
            self.place = Place::Names;
        } else if line.starts_with("test result: ") {
            self.place = Place::Results;
        } else if let Some(name) = between(line, "---- ", " stdout ----") {
            self.place = Place::Output(self.called(name), Said::Other);
        } else {
            self.read_in_place(line);
        }
    }

    fn read_in_place(&mut self, line: &'a str) {
        let name = match &mut self.place {
            Place::Results => between(line, "test ", " ... FAILED"),
            Place::Names => line.strip_prefix("    "),
            Place::Output(test, said) => {
                *said = said.after(line);
                if let Said::Panic = said {
                    self.panics.entry(test.clone()).or_default().push(line);
                }
                None
            }
        };
        // A program that dies of a signal tells neither names nor results.
        let died = line.contains("process didn't exit successfully") && line.contains("(signal: ");
        let overflowed = line.contains("has overflowed its stack");
        let name = name.or_else(|| (died || overflowed).then(|| line.trim()));
        if let Some(name) = name.map(|name| self.called(name)).filter(|name| !self.names.contains(name)) {
            self.names.push(name);
        }
    }

    fn called(&self, name: &str) -> String {
        format!("{}: {name}", self.program)
    }

    fn lines(self) -> Vec<String> {
        let mut all = self.names.clone();
        for name in &self.names {
            let Some(panic) = self.panics.get(name) else { continue };
            all.push(format!("---- {name}"));
            all.extend(panic.iter().take(OF_ONE).map(|line| line.chars().take(WIDTH).collect()));
            if panic.len() > OF_ONE {
                all.push(format!("… {} lines more", panic.len() - OF_ONE));
            }
        }
        let more = all.len().saturating_sub(LINES);
        if more > 0 {
            all.truncate(LINES - 1);
            all.push(format!("… {} lines more", more + 1));
        }
        all
    }
}

impl Said {
    /// What the next line of a test's output belongs to.
    fn after(self, line: &str) -> Said {
        let ends = line.starts_with("note: run with") || line == "stack backtrace:";
        match self {
            _ if line.starts_with("thread '") && line.contains(" panicked at ") => Said::Panic,
            Said::Panic if !ends => Said::Panic,
            _ => Said::Other,
        }
    }
}

/// What cargo says before it runs a program of tests.
fn program(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if let Some(tested) = line.strip_prefix("Doc-tests ") {
        return Some(tested);
    }
    let (program, path) = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?;
    // Unit tests of every package are called src/lib.rs; their file has the package's name, and a hash.
    let file = || path.rsplit('/').next().and_then(|file| file.rsplit_once('-')).map(|(name, _)| name);
    program.starts_with("unittests ").then(file).flatten().or(Some(program))
}

fn between<'a>(line: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.strip_suffix(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
     Running unittests src/lib.rs (/target/debug/deps/moldau_base-0123456789abcdef)

running 1 test
test time::tests::adds ... FAILED

failures:

---- time::tests::adds stdout ----
what the test printed

thread 'time::tests::adds' (77) panicked at crates/base/src/time.rs:3:5:
assertion `left == right` failed
  left: 1
 right: 2
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
what it printed later


failures:
    time::tests::adds

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `-p moldau-base --lib`
     Running tests/hostile/main.rs (/target/debug/deps/hostile-0123456789abcdef)

running 2 tests
test stop::fine ... ok
error: test failed, to rerun pass `-p moldau-cli --test hostile`

Caused by:
  process didn't exit successfully: `/target/debug/deps/hostile-0123456789abcdef` (signal: 6, SIGABRT: process abort signal)
   Doc-tests moldau_wire

running 1 test
test crates/wire/src/lib.rs - frame (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn names_come_first_and_then_panics() {
        let expected = [
            "moldau_base: time::tests::adds",
            "tests/hostile/main.rs: process didn't exit successfully: \
             `/target/debug/deps/hostile-0123456789abcdef` (signal: 6, SIGABRT: process abort signal)",
            "---- moldau_base: time::tests::adds",
            "thread 'time::tests::adds' (77) panicked at crates/base/src/time.rs:3:5:",
            "assertion `left == right` failed",
            "  left: 1",
            " right: 2",
        ];
        assert_eq!(failures(LOG), expected);
    }

    #[test]
    fn a_program_that_was_ended_has_told_who_failed_before() {
        let log = "     Running tests/it.rs (/deps/it-1)\ntest one ... ok\ntest two ... FAILED\n";
        assert_eq!(failures(log), ["tests/it.rs: two"]);
        assert_eq!(failures("test one ... ok\nfine\n    no name\n"), [""; 0]);
    }

    #[test]
    fn much_that_was_said_is_cut() {
        let mut log = "     Running tests/it.rs (/deps/it-1)\nfailures:\n".to_owned();
        for test in 0..40 {
            log += &format!("---- t{test} stdout ----\nthread 't' panicked at it.rs:1:\n");
            log += &format!("{}\n", "x".repeat(10 * WIDTH)).repeat(3 * OF_ONE);
        }
        log += "failures:\n";
        (0..40).for_each(|test| log += &format!("    t{test}\n"));
        let lines = failures(&log);
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[41], "thread 't' panicked at it.rs:1:");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(lines[40 + 1 + OF_ONE], "… 25 lines more");
        assert!(lines[LINES - 1].ends_with("lines more"));
    }
}
