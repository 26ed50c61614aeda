//! AlterReplicaLogDirs: move replicas of this node from one of its log directories to another (KIP-113).

use std::collections::BTreeMap;

use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_base::disk::DirId;
use moldau_wire::alter_replica_log_dirs::{Request, Response, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;
use crate::message::{Answer, Ask};

/// Asks the owner of every partition. What is named twice is asked twice, in order, and answered once, as its last place is.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let mut codes: BTreeMap<(ByteString, i32), ErrorCode> = BTreeMap::new();
    let mut places = Vec::new();
    let mut questions = Vec::new();
    for dir in request.dirs {
        let at = shard.settings.log_dirs.iter().position(|known| *known.path == *dir.path);
        let to = at.map(|at| DirId(at as u16)).ok_or(ErrorCode::LOG_DIR_NOT_FOUND);
        for topic in dir.topics {
            for index in topic.partitions {
                let image = &shard.cluster.image;
                let id = to.and_then(|to| Ok((super::resolve(image, &topic.name, Uuid::ZERO, index)?, to)));
                let place = (topic.name.clone(), index);
                match id {
                    Ok((partition, dir)) => {
                        places.push(place);
                        questions.push((shard.owner_of(partition), Ask::Relocate { partition, dir }));
                    }
                    Err(code) => drop(codes.insert(place, code)),
                }
            }
        }
    }
    shard.gather(questions, super::patience(30_000), move |shard, answers| {
        for (place, answer) in places.into_iter().zip(answers) {
            let code = match answer {
                Some(Answer::Relocated(code) | Answer::Unavailable(code)) => code,
                _ => ErrorCode::REQUEST_TIMED_OUT,
            };
            codes.insert(place, code);
        }
        let results = results(codes);
        shard.reply(context, AnyResponse::AlterReplicaLogDirs(Response { results, ..Response::default() }));
    });
}

fn results(codes: BTreeMap<(ByteString, i32), ErrorCode>) -> Vec<response::Topic> {
    let mut topics: Vec<response::Topic> = Vec::new();
    for ((topic_name, partition_index), error_code) in codes {
        let partition = response::Partition { partition_index, error_code };
        match topics.last_mut().filter(|topic| topic.topic_name == topic_name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(response::Topic { topic_name, partitions: vec![partition] }),
        }
    }
    topics
}
