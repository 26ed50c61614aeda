//! A host that keeps the log of one coordinator: it appends at once, commits when told, and after every step compares the
//! coordinator with one that replays the log.

use std::collections::VecDeque;

use moldau_base::{Mono, Now, Rng};
use moldau_group::{Config, Coordinator, Effect, Input, Record, Reply, Request};
use moldau_wire::ErrorCode;

/// What the host does with the appends that it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Appends and commits them at once.
    Commit,
    /// Appends them; they are committed later.
    Hold,
    /// Appends them, and says that it is not known when they will be committed; they are, later.
    Doubt(ErrorCode),
    /// Refuses them.
    Fail(ErrorCode),
}

/// What came out of a step.
pub enum Said {
    Reply(u64, Reply),
    Written(Record),
    Refused(Record),
}

/// The host.
pub struct Host {
    pub config: Config,
    pub coordinator: Coordinator,
    pub now: Now,
    pub mode: Log,
    pub log: Vec<Record>,
    /// Appended and not committed.
    pub held: VecDeque<u64>,
    pub seed: u64,
}

impl Host {
    pub fn new(config: Config, seed: u64) -> Host {
        let now = Now { wall_ms: 1_000_000, mono: Mono(5_000_000_000) };
        let mut coordinator = Coordinator::new(config.clone(), Rng::seeded(seed));
        coordinator.loaded(now, &mut Vec::new());
        Host { config, coordinator, now, mode: Log::Commit, log: Vec::new(), held: VecDeque::new(), seed }
    }

    pub fn request(&mut self, token: u64, request: Request) -> Vec<Said> {
        self.step(Input::Request { token, request: Box::new(request) })
    }

    /// Gives the input and carries out what comes of it.
    pub fn step(&mut self, input: Input) -> Vec<Said> {
        let mut said = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.coordinator.step(self.now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Reply { token, reply } => said.push(Said::Reply(token, reply)),
                    Effect::Append { id, records } => inputs.extend(self.append(id, records, &mut said)),
                }
            }
        }
        self.audit();
        said
    }

    fn append(&mut self, id: u64, records: Vec<Record>, said: &mut Vec<Said>) -> Vec<Input> {
        if let Log::Fail(error) = self.mode {
            said.extend(records.into_iter().map(Said::Refused));
            return vec![Input::AppendFailed { id, error }];
        }
        let first_offset = self.log.len() as i64;
        self.log.extend(records.iter().cloned());
        said.extend(records.into_iter().map(Said::Written));
        let appended = Input::Appended { id, first_offset };
        if self.mode == Log::Commit && self.held.is_empty() {
            vec![appended, Input::Committed { id }]
        } else {
            self.held.push_back(id);
            match self.mode {
                Log::Doubt(error) => vec![appended, Input::AppendInDoubt { id, error }],
                _ => vec![appended],
            }
        }
    }

    /// Commits the oldest held append.
    pub fn commit_one(&mut self) -> Vec<Said> {
        match self.held.pop_front() {
            Some(id) => self.step(Input::Committed { id }),
            None => Vec::new(),
        }
    }

    /// Lets time pass, and ticks when the coordinator wants to be.
    pub fn wait(&mut self, ms: u64, mut each: impl FnMut(&Host, Said)) {
        let end = Mono(self.now.mono.0 + ms * 1_000_000);
        while let Some(due) = self.coordinator.deadline().filter(|due| *due <= end) {
            self.pass_to(due.max(self.now.mono));
            for said in self.step(Input::Tick) {
                each(self, said);
            }
        }
        self.pass_to(end);
    }

    fn pass_to(&mut self, then: Mono) {
        let passed_ms = (then.0 / 1_000_000) as i64 - (self.now.mono.0 / 1_000_000) as i64;
        self.now = Now { wall_ms: self.now.wall_ms + passed_ms, mono: then };
    }

    /// Loses the leadership and gains it again.
    pub fn restart(&mut self) -> Vec<Said> {
        self.seed += 1;
        let mut effects = Vec::new();
        let next = Coordinator::new(self.config.clone(), Rng::seeded(self.seed));
        std::mem::replace(&mut self.coordinator, next).resign(ErrorCode::NOT_COORDINATOR, &mut effects);
        self.held.clear();
        let mut said = Vec::new();
        replay(&mut self.coordinator, &self.log);
        self.coordinator.loaded(self.now, &mut effects);
        for effect in effects {
            if let Effect::Reply { token, reply } = effect {
                said.push(Said::Reply(token, reply));
            }
        }
        self.audit();
        said
    }

    fn audit(&self) {
        let mut replayed = Coordinator::new(self.config.clone(), Rng::seeded(0));
        replay(&mut replayed, &self.log);
        if let Some(difference) = self.coordinator.differs_from(&replayed) {
            panic!("replay(log) is not live: {difference}");
        }
    }
}

fn replay(coordinator: &mut Coordinator, log: &[Record]) {
    for (offset, record) in log.iter().enumerate() {
        let read = coordinator.replay(offset as i64, record.key.clone(), record.value.clone());
        read.expect("what was written can be read");
    }
}
