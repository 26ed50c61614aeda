//! Workloads: which topics, clients and faults a run has. Each is one file with one function that sets the scene.

mod alter;
mod churn;
mod cluster;
mod expiry;
mod groups;
mod offsets;
mod produce;
mod relocate;
mod retention;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;

use moldau_base::Rng;

use crate::boot::Overrides;
use crate::clients::admin::Topic;
use crate::cx::{Cx, Shared};
use crate::weather::Faults;

/// A workload: its name, the faults it allows, and what it starts.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// In a sentence.
    pub about: &'static str,
    /// Faults it must survive.
    pub faults: Faults,
    /// Every acknowledged record is synced before (`flush.messages=1`), so that a power loss may take nothing.
    pub synced: bool,
    /// How many nodes there may be; the seed picks.
    pub nodes: &'static [usize],
    /// So many nodes more are controllers and nothing else, and those others are brokers and nothing else; without any each node is both.
    pub controllers: usize,
    /// Milliseconds of trouble.
    pub trouble_ms: u64,
    /// Settings of the node that differ from the simulator's defaults.
    pub settings: fn(&mut Rng, &mut Overrides),
    /// Starts the clients.
    pub start: fn(&Scene),
}

/// All workloads; a seed without a named one takes them in turn.
pub const ALL: &[Workload] = &[
    produce::PRODUCE,
    produce::POWER,
    produce::UNSYNCED,
    produce::BAD_DISK,
    groups::GROUPS,
    groups::GROUPS_POWER,
    churn::CHURN,
    retention::RETENTION,
    expiry::EXPIRY,
    offsets::OFFSETS,
    groups::GROUPS_BAD_DISK,
    churn::CHURN_BAD_DISK,
    alter::ALTER,
    cluster::CLUSTER,
    cluster::CLUSTER_POWER,
    cluster::CLUSTER_BAD_DISK,
    cluster::CLUSTER_MOVES,
    offsets::CLUSTER_OFFSETS,
    cluster::CLUSTER_ROLES,
    relocate::RELOCATE,
    relocate::CLUSTER_RELOCATE,
];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// Where a workload starts its clients, and says which topics are to be audited at the end.
#[derive(Clone)]
pub struct Scene {
    shared: Rc<RefCell<Shared>>,
    rng: Rc<RefCell<Rng>>,
    state: Rc<RefCell<State>>,
    /// As [`Workload::synced`].
    pub synced: bool,
}

#[derive(Default)]
struct State {
    running: usize,
    started: usize,
    without: BTreeSet<usize>,
    audited: Vec<Rc<Topic>>,
}

impl Scene {
    pub(crate) fn new(
        shared: Rc<RefCell<Shared>>,
        rng: Rng,
        synced: bool,
        without: BTreeSet<usize>,
    ) -> Scene {
        let state = State { without, ..State::default() };
        Scene { shared, rng: Rc::new(RefCell::new(rng)), state: Rc::new(RefCell::new(state)), synced }
    }

    /// A client of its own.
    pub fn cx(&self) -> Cx {
        let client = self.shared.borrow_mut().next_client();
        Cx::new(client, self.shared.clone(), self.rng.borrow_mut().fork())
    }

    /// Starts a client, unless the schedule leaves it out; the run does not end before it has.
    pub fn client<F: Future<Output = ()> + 'static>(&self, run: impl FnOnce(Cx) -> F) {
        let cx = self.cx();
        {
            let mut state = self.state.borrow_mut();
            let place = state.started;
            state.started += 1;
            if state.without.contains(&place) {
                return;
            }
            state.running += 1;
        }
        let task = run(cx.clone());
        let state = self.state.clone();
        cx.spawn(async move {
            task.await;
            state.borrow_mut().running -= 1;
        });
    }

    /// At the end everything in this topic is read, and what was acknowledged must be there.
    pub fn audit(&self, topic: &Rc<Topic>) {
        self.state.borrow_mut().audited.push(topic.clone());
    }

    /// Clients that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.state.borrow().running
    }

    /// Clients that were started, or left out.
    pub(crate) fn started(&self) -> usize {
        self.state.borrow().started
    }

    pub(crate) fn audited(&self) -> Vec<Rc<Topic>> {
        self.state.borrow().audited.clone()
    }

    /// The configuration of a topic whose promise is the workload's: small segments, so that there are many.
    pub fn topic_configs(&self, cx: &Cx) -> Vec<(&'static str, String)> {
        let mut configs = vec![("internal.segment.bytes", cx.between(4_000, 60_000).to_string())];
        if self.synced {
            configs.push(("flush.messages", "1".to_owned()));
        }
        if cx.one_in(3) {
            configs.push(("index.interval.bytes", cx.between(0, 4_096).to_string()));
        }
        if cx.one_in(3) {
            configs.push(("flush.ms", cx.between(1, 1_000).to_string()));
        }
        if cx.one_in(3) {
            configs.push(("segment.ms", cx.between(500, 20_000).to_string()));
        }
        configs
    }
}
