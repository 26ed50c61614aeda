//! CreateTopics: decided by the controller; answered when every shard of this node knows the topics.

use std::sync::Arc;

use moldau_base::NodeId;
use moldau_base::config;
use moldau_controller::{
    CreateTopics, Mode, NewTopic, Refusal, Reply, Request as ToController, TopicCreated,
};
use moldau_wire::create_topics::{Request, Response, request, response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use super::text;
use crate::Shard;
use crate::connections::Context;

/// Passes the topics to the controller.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let create = ToController::CreateTopics(CreateTopics {
        topics: request.topics.iter().map(new_topic).collect(),
        mode: if request.validate_only { Mode::Validate } else { Mode::Apply },
    });
    let patience = super::patience(request.timeout_ms);
    super::decide(shard, context, create, patience, move |shard, context, answers| {
        let topics = match super::from_controller(answers) {
            Ok(Reply::TopicsCreated(created)) => created.iter().map(|topic| entry(shard, topic)).collect(),
            Ok(_) => Vec::new(),
            Err(refusal) => names.iter().map(|name| refused(name, &refusal)).collect(),
        };
        shard.reply(context, AnyResponse::CreateTopics(Response { topics, ..Response::default() }));
    });
}

fn new_topic(topic: &request::Topic) -> NewTopic {
    let assignment = |assignment: &request::Assignment| {
        (assignment.partition_index, assignment.broker_ids.iter().copied().map(NodeId).collect())
    };
    let config =
        |config: &request::Config| (config.name.to_string(), config.value.as_deref().map(str::to_owned));
    NewTopic {
        name: Arc::from(&*topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

fn refused(name: &str, refusal: &Refusal) -> response::Topic {
    response::Topic {
        name: text(name),
        error_code: refusal.error,
        error_message: super::message(refusal),
        num_partitions: -1,
        replication_factor: -1,
        ..response::Topic::default()
    }
}

fn entry(shard: &Shard, topic: &TopicCreated) -> response::Topic {
    let created = match &topic.result {
        Ok(created) => created,
        Err(refusal) => return refused(&topic.name, refusal),
    };
    response::Topic {
        name: text(&topic.name),
        topic_id: created.id,
        error_code: ErrorCode::NONE,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs(shard, &created.configs)),
        ..response::Topic::default()
    }
}

/// The topic's configs as DescribeConfigs would show them (KIP-525).
fn configs(shard: &Shard, set: &config::Values) -> Vec<response::Config> {
    let described = super::describe_configs::topic_entries(shard, set);
    let entry = |config: super::describe_configs::Described| response::Config {
        name: config.name,
        value: config.value,
        read_only: config.read_only,
        config_source: config.source,
        is_sensitive: config.sensitive,
    };
    described.into_iter().map(entry).collect()
}
