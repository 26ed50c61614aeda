//! Questions that one request has put to owners of partitions, groups or the controller, and what to do when all are answered.

use std::collections::BTreeMap;
use std::fmt;

use crate::Shard;
use crate::message::{Answer, Return};

/// The answers of a gather by the place of their question; `None` where the deadline came first.
pub type Answers = Vec<Option<Answer>>;

/// What happens with the answers. It owns the request's context, and so the duty to reply.
pub type Finish = Box<dyn FnOnce(&mut Shard, Answers)>;

struct Gather {
    missing: usize,
    answers: Answers,
    finish: Finish,
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} missing", self.missing, self.answers.len())
    }
}

/// All gathers of a shard; bounded by the requests in work, which the host bounds.
#[derive(Debug, Default)]
pub struct Gathers {
    next: u64,
    open: BTreeMap<u64, Gather>,
}

impl Gathers {
    /// A gather of `questions` answers.
    pub fn open(&mut self, questions: usize, finish: Finish) -> u64 {
        let id = self.next_id();
        let answers = std::iter::repeat_with(|| None).take(questions).collect();
        self.open.insert(id, Gather { missing: questions, answers, finish });
        id
    }

    /// A fresh id, also for things that are not gathers but are answered to (parked fetches).
    pub fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes in an answer. When it was the last one: what to do, and with what. An answer that comes too late is dropped.
    pub fn answer(&mut self, to: Return, answer: Answer) -> Option<(Finish, Answers)> {
        let gather = self.open.get_mut(&to.gather)?;
        let slot = gather.answers.get_mut(to.index as usize)?;
        assert!(slot.is_none(), "a question is answered once");
        *slot = Some(answer);
        gather.missing -= 1;
        if gather.missing > 0 {
            return None;
        }
        self.give_up(to.gather)
    }

    /// Ends a gather with the answers it has.
    pub fn give_up(&mut self, id: u64) -> Option<(Finish, Answers)> {
        self.open.remove(&id).map(|gather| (gather.finish, gather.answers))
    }

    /// Number of requests in work.
    pub fn count(&self) -> usize {
        self.open.len()
    }
}
