//! What hosts do with messages: fetches and their answers, proposals and what the controller decided.

use moldau_base::{BrokerEpoch, LeaderEpoch, PartitionEpoch};
use moldau_batch::Batch;
use moldau_partition::{Effect, EpochEnd, Fetched, FollowerFetch, Input, IsrAnswer, News};

use crate::log::Entry;
use crate::world::{Decided, Message, What, World, id};

impl World {
    pub(crate) fn deliver(&mut self, message: Message) {
        match message {
            Message::Fetch { from, to, incarnation, epoch, offset, last_epoch } if self.nodes[to].up => {
                self.serve((from, incarnation), to, epoch, offset, last_epoch);
            }
            Message::Fetch { .. } => {}
            Message::Answer { to, incarnation, epoch, offset, last_epoch, high_watermark, start, what } => {
                // To a host, an answer belongs to one request. Here it is enough that it tells of the log that asked: another one may
                // end at the same offset by now.
                let node = &self.nodes[to];
                if node.incarnation == incarnation && node.log.last_epoch() == last_epoch {
                    self.answered(to, (epoch, offset), (high_watermark, start), what);
                }
            }
            Message::Propose { from, incarnation, epoch, partition_epoch, isr, orphan } => {
                let what = self.decide(from, epoch, partition_epoch, &isr);
                if !orphan {
                    self.messages.push(Message::Decision {
                        to: from,
                        incarnation,
                        epoch,
                        of: partition_epoch,
                        what,
                    });
                }
            }
            Message::Decision { to, incarnation, epoch, of, what } => {
                let isr = |isr: Vec<usize>| isr.into_iter().map(id).collect();
                let answer = match what {
                    Decided::Accepted { partition_epoch, isr: members } => IsrAnswer::Accepted {
                        partition_epoch: PartitionEpoch(partition_epoch),
                        isr: isr(members),
                    },
                    Decided::Refused => IsrAnswer::Refused,
                    Decided::Stale => IsrAnswer::Stale,
                };
                self.decided((to, incarnation), epoch, of, answer);
            }
        }
    }

    pub(crate) fn decided(
        &mut self,
        (to, incarnation): (usize, i64),
        epoch: i32,
        of: i32,
        answer: IsrAnswer,
    ) {
        if self.nodes[to].up && self.nodes[to].incarnation == incarnation {
            let (leader_epoch, partition_epoch) = (LeaderEpoch(epoch), PartitionEpoch(of));
            self.step(to, Input::IsrAnswer { leader_epoch, partition_epoch, answer });
        }
    }

    /// The leader hears nothing of its proposal, which may be on its way still.
    pub(crate) fn give_up(&mut self, message: usize) {
        let heard = match &mut self.messages[message] {
            Message::Propose { from, incarnation, epoch, partition_epoch, orphan, .. } => {
                *orphan = true;
                ((*from, *incarnation), *epoch, *partition_epoch)
            }
            Message::Decision { to, incarnation, epoch, of, .. } => {
                let heard = ((*to, *incarnation), *epoch, *of);
                self.messages.remove(message);
                heard
            }
            _ => return,
        };
        self.decided(heard.0, heard.1, heard.2, IsrAnswer::Unknown);
    }

    pub(crate) fn serve(
        &mut self,
        (from, incarnation): (usize, i64),
        to: usize,
        epoch: i32,
        offset: i64,
        last: Option<i32>,
    ) {
        let node = &self.nodes[to];
        let known = node.replica.check_epoch(Some(epoch)).is_ok();
        let log = &node.log;
        let end = last.map(|last| log.end_of(last));
        let diverges =
            |last: i32, end: Option<(i32, i64)>| end.is_none_or(|(e, end)| e < last || end < offset);
        let what = match (last, end) {
            (Some(last), Some(end)) if diverges(last, end) => What::Diverging(end),
            _ if offset < log.start || offset > log.end() => What::OutOfRange,
            _ => What::Entries(log.read(offset, node.replica.end_of(moldau_partition::View::Stored))),
        };
        if !matches!(what, What::Diverging(_)) {
            let registered = self.metadata[node.seen - 1].registered[from];
            let fetch = FollowerFetch {
                node: id(from),
                broker_epoch: BrokerEpoch(incarnation),
                registered: registered.map(BrokerEpoch),
                leader_epoch: LeaderEpoch(epoch),
                offset,
            };
            self.ineligible = (registered != Some(incarnation)).then_some(from);
            self.step(to, Input::FollowerFetch(fetch));
            self.ineligible = None;
        }
        let node = &self.nodes[to];
        let (high_watermark, start) = (node.replica.high_watermark(), node.log.start);
        if known {
            self.messages.push(Message::Answer {
                to: from,
                incarnation,
                epoch,
                offset,
                last_epoch: last,
                high_watermark,
                start,
                what,
            });
        }
    }

    pub(crate) fn answered(
        &mut self,
        at: usize,
        (epoch, offset): (i32, i64),
        (high_watermark, start): (i64, i64),
        what: What,
    ) {
        let now = self.now();
        let end = |(epoch, end_offset)| EpochEnd { epoch: LeaderEpoch(epoch), end_offset };
        let node = &mut self.nodes[at];
        let (mut batches, mut entries) = (Vec::new(), Vec::new());
        let news = match what {
            What::Entries(found) => {
                batches.extend(found.iter().map(Entry::batch));
                entries = found;
                News::Batches(&batches)
            }
            What::Diverging(leader) => News::Diverging {
                leader: leader.map(end),
                own: leader.and_then(|(epoch, _)| node.log.end_of(epoch)).map(end),
            },
            What::OutOfRange => News::OutOfRange,
        };
        let leader_epoch = LeaderEpoch(epoch);
        let fetched = Fetched { leader_epoch, offset, high_watermark, log_start_offset: start, news };
        let mut out = Vec::new();
        node.replica.step(now, Input::Fetched(fetched), &mut out);
        if let Some(Effect::AppendFetched { count }) =
            out.pop_if(|last| matches!(last, Effect::AppendFetched { .. }))
        {
            entries.truncate(count);
            entries.into_iter().for_each(|entry| node.log.push(entry));
            let taken: &[Batch] = &batches[..count];
            node.replica.step(now, Input::FetchedAppended { batches: taken }, &mut out);
        }
        out.into_iter().for_each(|effect| self.carry_out(at, effect));
    }
}
