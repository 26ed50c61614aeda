//! A consumer without a group's protocol: it commits offsets under a group id of its own, asks for them, and deletes them
//! (KIP-496). Being alone it knows what it must be told.

use std::rc::Rc;

use bytestring::ByteString;
use moldau_wire::{ErrorCode, delete_groups, offset_commit, offset_delete, offset_fetch};

use super::admin::Topic;
use super::register::{Outcome, Register};
use super::{cluster, member};
use crate::cx::{Cx, Gone};
use crate::failure;
use crate::kafka::Kafka;

/// A committed offset; `None` when there is none.
type Offset = Option<i64>;

struct Solo {
    cx: Cx,
    topic: Rc<Topic>,
    group: ByteString,
    known: Vec<Register<Offset>>,
}

/// Commits, fetches and deletes offsets until the faults are over, and looks a last time then.
pub async fn solo(cx: Cx, topic: Rc<Topic>) {
    let group = ByteString::from(format!("solo-{}", cx.client()));
    let known = (0..topic.partitions).map(|_| Register::new(None)).collect();
    let mut solo = Solo { cx: cx.clone(), topic, group, known };
    let mut looked = false;
    while !looked {
        let is_last = !cx.in_trouble();
        cx.doing("committing and deleting offsets");
        if let Ok(kafka) = cluster::coordinator(&cx, &solo.group).await {
            looked = solo.work(&kafka, is_last).await.is_ok() && is_last;
        }
        cx.pause_ms(20, 300).await;
    }
    cx.doing("done");
}

impl Solo {
    async fn work(&mut self, kafka: &Kafka, is_last: bool) -> Result<(), Gone> {
        if !member::find(kafka, &self.group).await?.is_ok() {
            return Err(Gone);
        }
        if is_last {
            for index in 0..self.topic.partitions {
                let mut left = 100;
                while !self.fetch(kafka, index).await? {
                    self.cx.pause_ms(50, 200).await;
                    left -= 1;
                    if left == 0 {
                        // Another node may be the coordinator.
                        return Err(Gone);
                    }
                }
            }
            return Ok(());
        }
        for _ in 0..self.cx.between(1, 40) {
            let index = self.cx.between(0, self.topic.partitions as u64 - 1) as i32;
            match self.cx.between(0, 20) {
                0 => self.delete_group(kafka).await?,
                1..=4 => self.delete(kafka, index).await?,
                5..=10 => drop(self.fetch(kafka, index).await?),
                _ => self.commit(kafka, index).await?,
            }
            self.cx.pause_ms(0, 200).await;
        }
        Ok(())
    }

    async fn commit(&mut self, kafka: &Kafka, index: i32) -> Result<(), Gone> {
        let offset = self.cx.between(0, 1_000_000) as i64;
        let wanted = Some(offset);
        let partition = offset_commit::request::Partition {
            partition_index: index,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = offset_commit::request::Topic {
            name: self.topic.name.clone(),
            topic_id: self.topic.id,
            partitions: vec![partition],
        };
        let request = offset_commit::Request {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.known[index as usize].write(&wanted);
        let response = kafka.call(request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let code = answer.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |answer| answer.error_code);
        self.settle("OffsetCommit", index, wanted, code);
        Ok(())
    }

    async fn delete(&mut self, kafka: &Kafka, index: i32) -> Result<(), Gone> {
        let partitions = vec![offset_delete::request::Partition { partition_index: index }];
        let topics = vec![offset_delete::request::Topic { name: self.topic.name.clone(), partitions }];
        self.known[index as usize].write(&None);
        let response = kafka.call(offset_delete::Request { group_id: self.group.clone(), topics }).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let code = match answer {
            Some(answer) if response.error_code.is_ok() => answer.error_code,
            _ => response.error_code,
        };
        self.settle("OffsetDelete", index, None, code);
        self.cx.count("offsets deleted", 1);
        Ok(())
    }

    /// Deletes the group: all its offsets go at once.
    async fn delete_group(&mut self, kafka: &Kafka) -> Result<(), Gone> {
        self.known.iter_mut().for_each(|known| known.write(&None));
        let response = kafka.call(delete_groups::Request { groups_names: vec![self.group.clone()] }).await?;
        let code = response.results.first().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |group| group.error_code);
        (0..self.topic.partitions).for_each(|index| self.settle("DeleteGroups", index, None, code));
        self.cx.count("groups deleted", 1);
        Ok(())
    }

    /// Takes in the answer to a commit or a deletion.
    fn settle(&mut self, what: &str, index: i32, wanted: Offset, code: ErrorCode) {
        let outcome = match code {
            ErrorCode::NONE => Outcome::Done,
            ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR => Outcome::Unknown,
            ErrorCode::GROUP_ID_NOT_FOUND if wanted.is_none() => {
                // A group of simple consumers without offsets is none: all are gone.
                (0..self.topic.partitions).for_each(|index| self.told(index, None));
                Outcome::NotDone
            }
            code if code.is_retriable() => Outcome::NotDone,
            code => {
                self.cx.problem(format!("{what} of {} was refused: {code:?}", self.group));
                Outcome::NotDone
            }
        };
        self.known[index as usize].settle(&wanted, outcome);
    }

    /// Asks for the offset of a partition; whether there was an answer.
    async fn fetch(&mut self, kafka: &Kafka, index: i32) -> Result<bool, Gone> {
        kafka.use_newest(moldau_wire::ApiKey::OffsetFetch);
        let topic = offset_fetch::request::GroupTopic {
            name: self.topic.name.clone(),
            topic_id: self.topic.id,
            partition_indexes: vec![index],
        };
        let group = offset_fetch::request::Group {
            group_id: self.group.clone(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = offset_fetch::Request { groups: vec![group], ..Default::default() };
        let response = kafka.call(request).await?;
        let Some(group) = response.groups.first().filter(|group| group.error_code.is_ok()) else {
            return Ok(false);
        };
        let answer = group.topics.first().and_then(|topic| topic.partitions.first());
        let Some(answer) = answer.filter(|answer| answer.error_code.is_ok()) else { return Ok(false) };
        self.told(index, (answer.committed_offset >= 0).then_some(answer.committed_offset));
        Ok(true)
    }

    fn told(&mut self, index: i32, offset: Offset) {
        if let Err(what) = self.known[index as usize].told(offset) {
            let what = format!("the offset of {} for partition {index}: {what}", self.group);
            self.cx.broken(failure::WRONG_OFFSET, what);
        }
    }
}
