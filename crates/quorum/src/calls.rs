//! Calls to other voters that wait for their answers.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moldau_base::NodeId;
use openraft::async_runtime::{Oneshot as _, OneshotSender as _};

use crate::event::{CallId, Event};
use crate::runtime::Oneshot;

type Sender = <Oneshot as openraft::async_runtime::Oneshot>::Sender<Option<Bytes>>;
type Receiver = <Oneshot as openraft::async_runtime::Oneshot>::Receiver<Option<Bytes>>;

/// The calls, and those that the host has not carried off yet.
#[derive(Default)]
pub(crate) struct Calls {
    next: u64,
    waiting: BTreeMap<CallId, Sender>,
    to_make: VecDeque<Event>,
}

impl Calls {
    /// Makes a call; `None` comes back when the host could not carry it or its answer.
    pub(crate) fn call(&mut self, to: NodeId, request: Bytes) -> Receiver {
        let id = CallId(self.next);
        self.next += 1;
        let (sender, receiver) = Oneshot::channel();
        self.waiting.insert(id, sender);
        self.to_make.push_back(Event::Call { id, to, request });
        receiver
    }

    /// The answer to a call. One that nobody waits for any more is dropped.
    pub(crate) fn answered(&mut self, id: CallId, answer: Option<Bytes>) {
        if let Some(sender) = self.waiting.remove(&id) {
            // The caller gave up: openraft asks again when it wants to know.
            let _ = sender.send(answer);
        }
    }

    /// Takes the calls that the host has to carry.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Event> {
        self.to_make.drain(..)
    }
}
