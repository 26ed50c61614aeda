//! Runs a seed so that a panic of the broker is a failure like any other; its place and its stack belong to the report.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::{self, Failure};
use crate::run::{Outcome, Plan, run};

/// Lines of a stack that a report shows.
const SHOWN: usize = 24;

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what panics say, in all threads, instead of printing it.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let stack = std::backtrace::Backtrace::force_capture().to_string();
        let is_ours = |line: &&str| line.contains("moldau") || line.contains("./crates");
        let ours: Vec<&str> = stack.lines().filter(is_ours).take(SHOWN).collect();
        PANIC.set(format!("{info}\n{}", ours.join("\n")));
    }));
}

/// As [`run`].
pub fn guarded(plan: &Plan) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(plan)))
        .unwrap_or_else(|_| Outcome::failed(Failure::new(failure::PANIC, PANIC.take())))
}
