//! One seed from beginning to verdict: trouble, heal, everyone finishes, audit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use moldau_base::Rng;

use crate::boot::Overrides;
use crate::clients::reader;
use crate::trace::Text;
use crate::weather::{Due, Weather};
use crate::workload::{Scene, Workload};
use crate::world::{Setup, World};

/// Milliseconds of virtual time in which everyone must be done once the faults are over.
const HEAL_MS: i64 = 180_000;

/// A run to do.
#[derive(Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The workload.
    pub workload: &'static Workload,
    /// What becomes of the trace.
    pub text: Text,
    /// Faults instead of those that the seed draws.
    pub faults: Option<Vec<Due>>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Equal for equal runs.
    pub hash: u64,
    /// Happenings.
    pub events: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// What clients counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// What was found, with the end of the trace; nothing in a good run.
    pub failure: Option<String>,
}

/// The conditions of a run.
pub fn weather(plan: &Plan) -> Weather {
    let mut rng = Rng::seeded(plan.seed);
    let mut weather = Weather::draw(&mut rng, plan.workload.faults, plan.workload.trouble_ms);
    if let Some(faults) = &plan.faults {
        weather.faults.clone_from(faults);
    }
    weather
}

/// Runs a seed.
pub fn run(plan: &Plan) -> Outcome {
    let mut rng = Rng::seeded(!plan.seed);
    let workload = plan.workload;
    let weather = weather(plan);
    let mut overrides = Overrides::default();
    if workload.synced {
        overrides.set("log.flush.interval.messages", 1);
    }
    (workload.settings)(&mut rng.fork(), &mut overrides);
    let setup = Setup { weather: weather.clone(), overrides, synced: workload.synced, text: plan.text };
    let mut world = World::new(rng.fork(), setup);
    let scene = Scene::new(world.shared.clone(), rng.fork(), workload.synced);
    (workload.start)(&scene);
    world.run(weather.trouble, |_| false);
    if !world.has_failed() {
        world.heal();
        finish(&mut world, &scene);
    }
    outcome(world)
}

/// Lets everyone finish, then reads everything back.
fn finish(world: &mut World, scene: &Scene) {
    let end = world.clock.now().after_ms(HEAL_MS);
    world.run(end, |_| scene.running() == 0);
    if scene.running() > 0 {
        return no_progress(world);
    }
    for topic in scene.audited() {
        scene.client(|cx| reader::audit(cx, topic));
    }
    let end = world.clock.now().after_ms(HEAL_MS);
    world.run(end, |_| scene.running() == 0);
    if scene.running() > 0 {
        return no_progress(world);
    }
    let mut shared = world.shared.borrow_mut();
    if shared.violation.is_none() {
        shared.violation = shared.watch.finish().err();
    }
}

fn no_progress(world: &World) {
    let mut shared = world.shared.borrow_mut();
    let waiting = shared.doing.iter().filter(|(_, what)| *what != "done");
    let waiting: Vec<String> = waiting.map(|(client, what)| format!("{client} is {what}")).collect();
    let what = format!("NoProgress: {} s after the faults were over, {}", HEAL_MS / 1000, waiting.join(", "));
    shared.problem.get_or_insert(what);
}

fn outcome(mut world: World) -> Outcome {
    let failure = {
        let shared = world.shared.borrow();
        let violation = shared.violation.as_ref().map(ToString::to_string);
        violation.or_else(|| shared.problem.clone())
    };
    let failure = failure.map(|what| {
        let mut report = what;
        // Writing to a string cannot fail.
        let _ = write!(report, "\nthe end of the trace:\n{}", world.trace);
        report
    });
    world.executor.clear();
    let shared = world.shared.borrow();
    Outcome {
        hash: world.trace.hash(),
        events: world.events,
        virtual_ms: shared.now.0 / 1_000_000,
        counts: shared.counts.clone(),
        failure,
    }
}

/// Takes faults away, one after the other, as long as the run `still_fails`; the fewest that were found.
pub fn shrink(faults: Vec<Due>, mut still_fails: impl FnMut(&[Due]) -> bool) -> Vec<Due> {
    let mut fewest = faults;
    let mut at = 0;
    while at < fewest.len() {
        let mut fewer = fewest.clone();
        fewer.remove(at);
        if still_fails(&fewer) {
            fewest = fewer;
        } else {
            at += 1;
        }
    }
    fewest
}

impl Outcome {
    /// The outcome of a run that ended in a panic.
    pub fn panicked(report: String) -> Outcome {
        Outcome { hash: 0, events: 0, virtual_ms: 0, counts: BTreeMap::new(), failure: Some(report) }
    }
}
