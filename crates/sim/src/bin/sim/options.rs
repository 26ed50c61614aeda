//! What the command line says.

use moldau_base::planted::Bug;
use moldau_sim::Text;
use moldau_sim::planted::bugs;
use moldau_sim::schedule::Schedule;
use moldau_sim::workload::{self, Workload};

const USAGE: &str = "\
usage: cargo xtask sim [OPTIONS]
  --seeds N      how many seeds to run (100)
  --from S       the first one (1)
  --workload W   always this workload; without it the workloads take turns
  --trace        write everything that happens to standard error
  --twice        run each seed twice and compare the hashes
  --no-shrink    report a failure as it is
  --list         show the workloads
  --planted      test the simulator: switch on one planted bug after the other and look for it
  --page P       with --planted: writes the table of what was found into this page
  --bug B        run with this planted bug
What of a run happens, as reports of failures print it:
  --faults L     only these faults of the seed, by their places in its list; or none
  --without L    these clients do not begin
  --calm L       simple conditions: some of shards,dirs,network,disk,end
  --trouble-ms N the trouble ends after so many milliseconds
  --course N     another course of the same events";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run seeds.
    Seeds,
    /// Show the workloads.
    List,
    /// Show how to use it.
    Help,
    /// Look for planted bugs.
    Planted,
}

/// The options.
#[derive(Clone)]
pub struct Options {
    /// What to do.
    pub task: Task,
    /// How many seeds, and the first one.
    pub seeds: u64,
    /// The first seed.
    pub from: u64,
    /// The workload, unless they take turns.
    pub workload: Option<&'static Workload>,
    /// What becomes of the trace.
    pub text: Text,
    /// Each seed runs twice.
    pub twice: bool,
    /// Failures are shrunk.
    pub shrink: bool,
    /// What of each run happens.
    pub schedule: Schedule,
    /// A bug that is switched on.
    pub bug: Option<Bug>,
    /// A page with a table of planted bugs.
    pub page: Option<String>,
}

impl Options {
    /// Reads the command line.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            task: Task::Seeds,
            seeds: 100,
            from: 1,
            workload: None,
            text: Text::None,
            twice: false,
            shrink: true,
            schedule: Schedule::default(),
            bug: None,
            page: None,
        };
        while let Some(arg) = args.next() {
            if !options.flag(&arg) {
                let value =
                    args.next().ok_or(format!("{arg} is not understood, or needs a value\n{USAGE}"))?;
                options.value(&arg, &value)?;
            }
        }
        Ok(options)
    }

    fn flag(&mut self, arg: &str) -> bool {
        match arg {
            "--trace" => self.text = Text::All,
            "--twice" => self.twice = true,
            "--no-shrink" => self.shrink = false,
            "--list" => self.task = Task::List,
            "--planted" => self.task = Task::Planted,
            "--help" | "-h" => self.task = Task::Help,
            _ => return false,
        }
        true
    }

    fn value(&mut self, arg: &str, value: &str) -> Result<(), String> {
        let number = || value.parse().map_err(|_| format!("{arg} {value}: not a number"));
        match arg {
            "--seeds" => self.seeds = number()?,
            "--from" => self.from = number()?,
            "--page" => self.page = Some(value.to_owned()),
            "--workload" => {
                let known = workload::find(value);
                self.workload = Some(known.ok_or(format!("no workload {value:?}: see --list"))?);
            }
            "--bug" => {
                let known = bugs().into_iter().find(|bug| bug.name() == value);
                self.bug = Some(known.ok_or(format!("no bug {value:?}: see --planted"))?);
            }
            _ if self.schedule.take(arg, value)? => {}
            _ => return Err(format!("{arg} is not understood\n{USAGE}")),
        }
        Ok(())
    }
}

/// How to use it.
pub fn usage() -> &'static str {
    USAGE
}
