//! Administration: topics, configs, offsets by time, deletion of records.

use std::collections::BTreeMap;
use std::time::Duration;

use bytestring::ByteString;
use moldau_base::config::Source;
use moldau_wire::{
    ApiKey, create_partitions, create_topics, delete_records, delete_topics, describe_cluster,
    describe_configs, incremental_alter_configs, list_offsets,
};

use crate::Result;
use crate::client::Client;
use crate::error::{ClientError, check};

/// How long a broker may take for an administrative request.
const ADMIN_TIMEOUT_MS: i32 = 30_000;

/// A topic to be created.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; -1 for the broker's default.
    pub partitions: i32,
    /// Replicas of each; -1 for the broker's default.
    pub replication_factor: i16,
    /// Configs of its own.
    pub configs: BTreeMap<String, String>,
}

/// What configs belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A broker; none for the configs of all brokers.
    Broker(Option<i32>),
}

impl Resource {
    fn wire(&self) -> (i8, ByteString) {
        match self {
            Resource::Topic(name) => (2, ByteString::from(name.as_str())),
            Resource::Broker(Some(id)) => (4, ByteString::from(id.to_string())),
            Resource::Broker(None) => (4, ByteString::new()),
        }
    }
}

/// A config of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value; none for a secret, and where none is set.
    pub value: Option<String>,
    /// Number of the layer that it came from, as in [`Source`].
    pub source: i8,
    /// True if it cannot be changed while the broker runs.
    pub read_only: bool,
    /// True if the value is never shown.
    pub sensitive: bool,
}

impl ConfigEntry {
    /// True if somebody set it on this very resource.
    pub fn is_own(&self) -> bool {
        self.source == Source::Topic.wire() || self.source == Source::DynamicBroker.wire()
    }
}

/// A change of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a key.
    Set(String, String),
    /// Takes a key back to its default.
    Delete(String),
}

impl Client {
    /// Creates a topic and answers with its number of partitions; -1 if the broker does not tell.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<i32> {
        let config = |(name, value): (&String, &String)| create_topics::request::Config {
            name: ByteString::from(name.as_str()),
            value: Some(ByteString::from(value.as_str())),
        };
        let request = create_topics::Request {
            topics: vec![create_topics::request::Topic {
                name: ByteString::from(topic.name.as_str()),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                assignments: Vec::new(),
                configs: topic.configs.iter().map(config).collect(),
            }],
            timeout_ms: ADMIN_TIMEOUT_MS,
            validate_only: false,
        };
        let response = self.call(request).await?;
        let result = first(ApiKey::CreateTopics, &topic.name, response.topics)?;
        check(|| format!("creating topic {}", topic.name), result.error_code, result.error_message.as_ref())?;
        Ok(result.num_partitions)
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let connection = self.any().await?;
        let version = connection.version::<delete_topics::Request>(i16::MAX)?;
        let mut request = delete_topics::Request { timeout_ms: ADMIN_TIMEOUT_MS, ..Default::default() };
        let name_bytes = ByteString::from(name);
        if version >= 6 {
            let topic = delete_topics::request::Topic { name: Some(name_bytes), ..Default::default() };
            request.topics = vec![topic];
        } else {
            request.topic_names = vec![name_bytes];
        }
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        let result = first(ApiKey::DeleteTopics, name, response.responses)?;
        check(|| format!("deleting topic {name}"), result.error_code, result.error_message.as_ref())
    }

    /// Gives a topic more partitions: `count` in all.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<()> {
        let request = create_partitions::Request {
            topics: vec![create_partitions::request::Topic {
                name: ByteString::from(topic),
                count,
                assignments: None,
            }],
            timeout_ms: ADMIN_TIMEOUT_MS,
            validate_only: false,
        };
        let response = self.call(request).await?;
        let result = first(ApiKey::CreatePartitions, topic, response.results)?;
        check(|| format!("partitions of topic {topic}"), result.error_code, result.error_message.as_ref())
    }

    /// The configs of a resource, by name.
    pub async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>> {
        let (resource_type, resource_name) = resource.wire();
        let what = resource_name.to_string();
        let request = describe_configs::Request {
            resources: vec![describe_configs::request::Resource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }],
            ..Default::default()
        };
        let response = match resource {
            Resource::Broker(Some(id)) => self.to(*id).await?.call(request).await?,
            _ => self.call(request).await?,
        };
        let result = first(ApiKey::DescribeConfigs, &what, response.results)?;
        check(|| format!("configs of {what}"), result.error_code, result.error_message.as_ref())?;
        let entry = |config: &describe_configs::response::Config| ConfigEntry {
            name: config.name.to_string(),
            value: config.value.as_ref().map(ToString::to_string),
            source: config.config_source,
            read_only: config.read_only,
            sensitive: config.is_sensitive,
        };
        let mut entries: Vec<ConfigEntry> = result.configs.iter().map(entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes configs of a resource: all of them or none.
    pub async fn alter_configs(&self, resource: &Resource, changes: &[ConfigChange]) -> Result<()> {
        let (resource_type, resource_name) = resource.wire();
        let what = resource_name.to_string();
        let config = |change: &ConfigChange| match change {
            ConfigChange::Set(name, value) => incremental_alter_configs::request::Config {
                name: ByteString::from(name.as_str()),
                config_operation: 0,
                value: Some(ByteString::from(value.as_str())),
            },
            ConfigChange::Delete(name) => incremental_alter_configs::request::Config {
                name: ByteString::from(name.as_str()),
                config_operation: 1,
                value: None,
            },
        };
        let request = incremental_alter_configs::Request {
            resources: vec![incremental_alter_configs::request::Resource {
                resource_type,
                resource_name,
                configs: changes.iter().map(config).collect(),
            }],
            validate_only: false,
        };
        let response = self.call(request).await?;
        let result = first(ApiKey::IncrementalAlterConfigs, &what, response.responses)?;
        check(|| format!("configs of {what}"), result.error_code, result.error_message.as_ref())
    }

    /// Id of the cluster, and node id of its controller as it is told to clients.
    pub async fn describe_cluster(&self) -> Result<(String, i32)> {
        let request = describe_cluster::Request { endpoint_type: 1, ..Default::default() };
        let response = self.call(request).await?;
        check(|| "the cluster".to_owned(), response.error_code, response.error_message.as_ref())?;
        Ok((response.cluster_id.to_string(), response.controller_id))
    }

    /// Offset of the first record at or after `timestamp` in milliseconds, with that record's timestamp; -1 for the
    /// end of the log, -2 for its beginning, -3 for the largest timestamp. An offset of -1 means there is none.
    pub async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<(i64, i64)> {
        let tries = self.tries();
        loop {
            match self.ask_offset(topic, partition, timestamp).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    self.forget(topic).await;
                    tries.again(error).await?;
                }
            }
        }
    }

    async fn ask_offset(&self, topic: &str, partition: i32, timestamp: i64) -> Result<(i64, i64)> {
        let (leader, _) = self.leader(topic, partition).await?;
        let connection = self.to(leader).await?;
        let version = connection.version::<list_offsets::Request>(9)?;
        let partitions = vec![list_offsets::request::Partition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp,
        }];
        let request = list_offsets::Request {
            replica_id: -1,
            topics: vec![list_offsets::request::Topic { name: ByteString::from(topic), partitions }],
            ..Default::default()
        };
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        let found = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let what = || format!("offsets of {topic}-{partition}");
        let found = found.ok_or_else(|| ClientError::Missing { api: ApiKey::ListOffsets, what: what() })?;
        check(what, found.error_code, None)?;
        Ok((found.offset, found.timestamp))
    }

    /// Deletes all records of a partition before `offset` (-1 for all) and answers with the log's new start.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64> {
        let (leader, _) = self.leader(topic, partition).await?;
        let request = delete_records::Request {
            topics: vec![delete_records::request::Topic {
                name: ByteString::from(topic),
                partitions: vec![delete_records::request::Partition { partition_index: partition, offset }],
            }],
            timeout_ms: ADMIN_TIMEOUT_MS,
        };
        let response = self.to(leader).await?.call(request).await?;
        let found = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let what = || format!("records of {topic}-{partition}");
        let found = found.ok_or_else(|| ClientError::Missing { api: ApiKey::DeleteRecords, what: what() })?;
        check(what, found.error_code, None)?;
        Ok(found.low_watermark)
    }
}

fn first<T>(api: ApiKey, what: &str, items: Vec<T>) -> Result<T> {
    items.into_iter().next().ok_or_else(|| ClientError::Missing { api, what: what.to_owned() })
}
