//! Nodes, moves of partitions between them, and elections of leaders.

use bytestring::ByteString;
use moldau_wire::{
    ErrorCode, alter_partition_reassignments, describe_cluster, elect_leaders, list_partition_reassignments,
};

use crate::Result;
use crate::client::{Broker, Client};
use crate::error::check;

/// How long a broker may take for such a request.
const ADMIN_TIMEOUT_MS: i32 = 30_000;

/// A broker as the cluster has it registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub broker: Broker,
    /// It is down, or has yet to catch up with metadata.
    pub fenced: bool,
}

/// The replicas that a partition shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Node ids, the preferred leader first; none to cancel the move that is under way.
    pub replicas: Option<Vec<i32>>,
}

/// A move that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All replicas, those that come and those that go too.
    pub replicas: Vec<i32>,
    /// Those that come.
    pub adding: Vec<i32>,
    /// Those that go.
    pub removing: Vec<i32>,
}

impl Client {
    /// The nodes of the cluster, those that are down too.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        let connection = self.any().await?;
        let version = connection.version::<describe_cluster::Request>(2)?;
        let request = describe_cluster::Request {
            endpoint_type: 1,
            include_fenced_brokers: version >= 2,
            ..Default::default()
        };
        let response = connection.call_as(version, &request, std::time::Duration::ZERO).await?;
        check(|| "the cluster".to_owned(), response.error_code, response.error_message.as_ref())?;
        let node = |broker: &describe_cluster::response::Broker| Node {
            broker: Broker {
                id: broker.broker_id,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
            },
            fenced: broker.is_fenced,
        };
        let mut nodes: Vec<Node> = response.brokers.iter().map(node).collect();
        nodes.sort_by_key(|node| node.broker.id);
        Ok(nodes)
    }

    /// Begins or cancels moves. The first that is refused is the error; the others have begun all the same.
    pub async fn reassign(&self, moves: &[Move]) -> Result<()> {
        use alter_partition_reassignments::request::{Partition, Topic};
        let mut topics: Vec<Topic> = Vec::new();
        for wish in moves {
            let partition = Partition { partition_index: wish.partition, replicas: wish.replicas.clone() };
            match topics.last_mut().filter(|topic| *topic.name == *wish.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics
                    .push(Topic { name: ByteString::from(wish.topic.as_str()), partitions: vec![partition] }),
            }
        }
        let request = alter_partition_reassignments::Request {
            timeout_ms: ADMIN_TIMEOUT_MS,
            topics,
            ..Default::default()
        };
        let response = self.call(request).await?;
        check(|| "moving partitions".to_owned(), response.error_code, response.error_message.as_ref())?;
        for topic in &response.responses {
            for partition in &topic.partitions {
                let what = || format!("moving {}-{}", topic.name, partition.partition_index);
                check(what, partition.error_code, partition.error_message.as_ref())?;
            }
        }
        Ok(())
    }

    /// The moves that are under way, by topic and partition.
    pub async fn reassignments(&self) -> Result<Vec<Moving>> {
        let request =
            list_partition_reassignments::Request { timeout_ms: ADMIN_TIMEOUT_MS, ..Default::default() };
        let response = self.call(request).await?;
        let what = || "the moves that are under way".to_owned();
        check(what, response.error_code, response.error_message.as_ref())?;
        let mut moving = Vec::new();
        for topic in response.topics {
            moving.extend(topic.partitions.into_iter().map(|partition| Moving {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
                replicas: partition.replicas,
                adding: partition.adding_replicas,
                removing: partition.removing_replicas,
            }));
        }
        moving.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(moving)
    }

    /// Gives leadership of these partitions to their first replicas, where they do not have it.
    pub async fn elect_preferred(&self, partitions: &[(String, i32)]) -> Result<()> {
        let topic = |(topic, partition): &(String, i32)| elect_leaders::request::Topic {
            topic: ByteString::from(topic.as_str()),
            partitions: vec![*partition],
        };
        let request = elect_leaders::Request {
            topic_partitions: Some(partitions.iter().map(topic).collect()),
            timeout_ms: ADMIN_TIMEOUT_MS,
            ..Default::default()
        };
        let response = self.call(request).await?;
        check(|| "electing leaders".to_owned(), response.error_code, None)?;
        for topic in &response.replica_election_results {
            for partition in &topic.partition_result {
                if partition.error_code == ErrorCode::ELECTION_NOT_NEEDED {
                    continue;
                }
                let what = || format!("electing a leader of {}-{}", topic.topic, partition.partition_id);
                check(what, partition.error_code, partition.error_message.as_ref())?;
            }
        }
        Ok(())
    }
}
