//! One seed from beginning to verdict: trouble, heal, everyone finishes, audit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use moldau_base::Rng;
use moldau_base::planted::Bug;

use crate::boot::Overrides;
use crate::clients::{cluster, reader};
use crate::failure::{self, Failure};
use crate::schedule::Schedule;
use crate::trace::Text;
use crate::weather::Weather;
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
    /// What of it happens.
    pub schedule: Schedule,
    /// A bug that is switched on, in a build that can.
    pub planted: Option<Bug>,
}

impl Plan {
    /// All that happens with a seed and a workload.
    pub fn whole(seed: u64, workload: &'static Workload) -> Plan {
        Plan { seed, workload, text: Text::None, schedule: Schedule::default(), planted: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Equal for equal runs.
    pub hash: u64,
    /// Happenings.
    pub events: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// What clients counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Clients that the workload started, or would have.
    pub clients: usize,
    /// What was found, with the end of the trace; nothing in a good run.
    pub failure: Option<Failure>,
}

/// The conditions of a run.
pub fn weather(plan: &Plan) -> Weather {
    let mut rng = Rng::seeded(plan.seed);
    let mut weather = Weather::draw(
        &mut rng,
        plan.workload.faults,
        plan.workload.nodes,
        plan.workload.controllers,
        plan.workload.trouble_ms,
    );
    plan.schedule.apply(&mut weather);
    weather
}

/// Switches a planted bug on, until it is dropped.
struct Planted;

impl Planted {
    fn switch_on(bug: Option<Bug>) -> Planted {
        #[cfg(feature = "planted")]
        moldau_base::planted::plant(bug);
        #[cfg(not(feature = "planted"))]
        assert!(bug.is_none(), "this build has no planted bugs: build it with the feature `planted`");
        Planted
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        #[cfg(feature = "planted")]
        moldau_base::planted::plant(None);
    }
}

/// Runs a seed.
pub fn run(plan: &Plan) -> Outcome {
    let _planted = Planted::switch_on(plan.planted);
    let mut rng = Rng::seeded(!plan.seed ^ plan.schedule.course.rotate_left(32));
    let workload = plan.workload;
    let weather = weather(plan);
    let mut overrides = Overrides::default();
    if workload.synced {
        overrides.set("log.flush.interval.messages", 1);
    }
    (workload.settings)(&mut rng.fork(), &mut overrides);
    let setup = Setup {
        weather: weather.clone(),
        overrides,
        synced: workload.synced,
        text: plan.text,
        strangers: false,
    };
    let mut world = World::new(rng.fork(), setup);
    let scene = Scene::new(world.shared.clone(), rng.fork(), workload.synced, plan.schedule.without.clone());
    (workload.start)(&scene);
    world.run(weather.trouble, |_| false);
    if !world.has_failed() {
        world.compare_replays();
        world.heal();
        finish(&mut world, &scene);
    }
    outcome(world, &scene)
}

/// Lets everyone finish, then reads everything back.
fn finish(world: &mut World, scene: &Scene) {
    let end = world.clock.now().after_ms(HEAL_MS);
    world.run(end, |_| scene.running() == 0);
    if scene.running() > 0 {
        return no_progress(world);
    }
    // What several nodes have not synced nobody promises when all of them lose power.
    if world.setup.weather.dark_end && (world.nodes.len() == 1 || world.setup.synced) {
        world.dark_end();
    }
    for topic in scene.audited() {
        match world.nodes.len() {
            1 => scene.client(|cx| reader::audit(cx, topic)),
            _ => scene.client(|cx| cluster::audit(cx, topic)),
        }
    }
    let end = world.clock.now().after_ms(HEAL_MS);
    world.run(end, |_| scene.running() == 0);
    if scene.running() > 0 {
        return no_progress(world);
    }
    world.run(end, |world| world.nodes.len() == 1 || world.is_whole());
    if !world.has_failed() {
        world.compare_replays();
        world.compare_nodes();
        world.compare_observers();
    }
    if !world.has_failed() && world.nodes.len() > 1 && !world.is_whole() {
        return not_whole(world);
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
    let mut what = format!("{} s after the faults were over, {}", HEAL_MS / 1000, waiting.join(", "));
    if world.nodes.len() > 1 && !world.is_whole() {
        what.push_str(&format!("; {}", world.what_is_missing()));
    }
    shared.problem.get_or_insert(Failure::new(failure::NO_PROGRESS, what));
}

fn not_whole(world: &World) {
    let what = format!("{} s after the faults were over {}", HEAL_MS / 1000, world.what_is_missing());
    world.shared.borrow_mut().problem.get_or_insert(Failure::new(failure::NO_PROGRESS, what));
}

fn outcome(mut world: World, scene: &Scene) -> Outcome {
    let mut failure = {
        let shared = world.shared.borrow();
        shared.violation.as_ref().map(Failure::from).or_else(|| shared.problem.clone())
    };
    if let Some(failure) = &mut failure {
        // Writing to a string cannot fail.
        let _ = write!(failure.what, "\nthe end of the trace:\n{}", world.trace);
    }
    world.executor.clear();
    let shared = world.shared.borrow();
    Outcome {
        hash: world.trace.hash(),
        events: world.events,
        virtual_ms: shared.now.0 / 1_000_000,
        counts: shared.counts.clone(),
        faults: world.struck.clone(),
        clients: scene.started(),
        failure,
    }
}

impl Outcome {
    /// The outcome of a run that ended in the middle.
    pub fn failed(failure: Failure) -> Outcome {
        Outcome { failure: Some(failure), ..Outcome::default() }
    }
}
