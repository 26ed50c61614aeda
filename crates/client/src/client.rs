//! A cluster as a client sees it: brokers, leaders, coordinators, and one connection to each broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use moldau_wire::{ApiKey, Call, ErrorCode, find_coordinator, metadata};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Result;
use crate::connection::Connection;
use crate::error::{ClientError, check};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this client in the broker's logs.
    pub client_id: ByteString,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer, beyond what the broker was asked to wait.
    pub request_timeout: Duration,
    /// Largest answer, in bytes.
    pub response_bytes: u32,
    /// Most requests in flight on one connection.
    pub in_flight: usize,
    /// How long a call is tried again while the cluster has no leader or no coordinator for it.
    pub retry_for: Duration,
    /// Pause between two tries.
    pub retry_pause: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            client_id: ByteString::from_static("moldau"),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_bytes: 256 << 20,
            in_flight: 64,
            retry_for: Duration::from_secs(30),
            retry_pause: Duration::from_millis(100),
        }
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// Where it told clients to connect.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack or zone.
    pub rack: Option<String>,
}

impl Broker {
    /// Host and port, as [`Connection::open`] takes them.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A topic of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: moldau_base::Uuid,
    /// True for topics that the brokers made for themselves.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Node id of its leader; -1 if there is none.
    pub leader: i32,
    /// Epoch of the leader; -1 if the broker does not tell.
    pub leader_epoch: i32,
    /// Node ids of all replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub in_sync: Vec<i32>,
    /// Node ids of the replicas that are offline.
    pub offline: Vec<i32>,
}

/// A client of one cluster. Clones share connections and what is known of the cluster.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bootstrap: Vec<String>,
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bootstrap: Option<Arc<Connection>>,
    connections: BTreeMap<i32, Arc<Connection>>,
    brokers: BTreeMap<i32, Broker>,
    topics: BTreeMap<String, Topic>,
}

impl State {
    /// The connection to a broker, if there is one that works.
    fn open(&self, node_id: i32) -> Option<Arc<Connection>> {
        self.connections.get(&node_id).filter(|connection| !connection.is_closed()).cloned()
    }
}

impl Client {
    /// Connects to the first of these brokers (`host:port,host:port`) that answers.
    pub async fn connect(bootstrap: &str, options: Options) -> Result<Client> {
        let addresses: Vec<String> =
            bootstrap.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
        for address in &addresses {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(ClientError::Address(address.clone()));
            }
        }
        if addresses.is_empty() {
            return Err(ClientError::Address(bootstrap.to_owned()));
        }
        let shared = Shared { bootstrap: addresses, options, state: Mutex::default() };
        let client = Client { shared: Arc::new(shared) };
        client.any().await?;
        Ok(client)
    }

    /// How this client behaves.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// A connection to some broker.
    pub async fn any(&self) -> Result<Arc<Connection>> {
        let mut state = self.shared.state.lock().await;
        let known = state.bootstrap.iter().chain(state.connections.values());
        if let Some(open) = known.into_iter().find(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let learned = state.brokers.values().map(Broker::address);
        let addresses: Vec<String> = self.shared.bootstrap.iter().cloned().chain(learned).collect();
        let mut last = None;
        for address in addresses {
            match Connection::open(&address, &self.shared.options).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    state.bootstrap = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Err(error) => last = last.or(Some(error)),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Address(self.shared.bootstrap.join(","))))
    }

    /// The connection to the broker with this node id.
    pub async fn to(&self, node_id: i32) -> Result<Arc<Connection>> {
        let address = {
            let state = self.shared.state.lock().await;
            if let Some(open) = state.open(node_id) {
                return Ok(open);
            }
            let missing = || ClientError::Missing { api: ApiKey::Metadata, what: format!("node {node_id}") };
            state.brokers.get(&node_id).ok_or_else(missing)?.address()
        };
        // A broker that does not answer must not keep others from those that do.
        let connection = Arc::new(Connection::open(&address, &self.shared.options).await?);
        let mut state = self.shared.state.lock().await;
        if let Some(open) = state.open(node_id) {
            return Ok(open);
        }
        state.connections.insert(node_id, Arc::clone(&connection));
        Ok(connection)
    }

    /// Sends a request to some broker.
    pub async fn call<R: Call>(&self, request: R) -> Result<R::Response> {
        self.any().await?.call(request).await
    }

    /// Asks for the cluster's metadata: of these topics, or of all; `create` lets the broker create missing ones.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<metadata::Response> {
        let topic = |name: &&str| metadata::request::Topic {
            name: Some(ByteString::from(*name)),
            ..metadata::request::Topic::default()
        };
        let request = metadata::Request {
            topics: topics.map(|names| names.iter().map(topic).collect()),
            allow_auto_topic_creation: create,
            ..metadata::Request::default()
        };
        let connection = self.any().await?;
        let version = connection.version::<metadata::Request>(12)?;
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        let mut state = self.shared.state.lock().await;
        for broker in &response.brokers {
            let broker = Broker {
                id: broker.node_id,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
            };
            let moved = state.brokers.get(&broker.id).is_some_and(|known| *known != broker);
            if moved {
                state.connections.remove(&broker.id);
            }
            state.brokers.insert(broker.id, broker);
        }
        Ok(response)
    }

    /// The brokers of the cluster.
    pub async fn brokers(&self) -> Result<Vec<Broker>> {
        self.metadata(Some(&[]), false).await?;
        Ok(self.shared.state.lock().await.brokers.values().cloned().collect())
    }

    /// All topics, by name.
    pub async fn topics(&self) -> Result<Vec<Topic>> {
        let response = self.metadata(None, false).await?;
        let mut topics: Vec<Topic> =
            response.topics.iter().filter_map(|topic| topic_of(topic).ok()).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// A topic, asked for afresh.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Topic> {
        let response = self.metadata(Some(&[name]), create).await?;
        let found = response.topics.iter().find(|topic| topic.name.as_deref() == Some(name));
        let missing = || ClientError::Missing { api: ApiKey::Metadata, what: format!("topic {name}") };
        let topic = topic_of(found.ok_or_else(missing)?)?;
        self.shared.state.lock().await.topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// A topic that has a leader for every partition, waited for.
    pub async fn ready_topic(&self, name: &str, create: bool) -> Result<Topic> {
        let tries = self.tries();
        loop {
            let error = match self.topic(name, create).await {
                Ok(topic) => match topic.partitions.iter().find(|partition| partition.leader < 0) {
                    Some(headless) => ClientError::NoLeader { topic: topic.name, partition: headless.index },
                    None => return Ok(topic),
                },
                Err(error) => error,
            };
            tries.again(error).await?;
        }
    }

    /// Node id and epoch of the leader of a partition: as far as known, or asked for.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<(i32, i32)> {
        let of = |topic: &Topic| {
            let found = topic.partitions.iter().find(|p| p.index == partition && p.leader >= 0);
            found.map(|p| (p.leader, p.leader_epoch))
        };
        if let Some(known) = self.shared.state.lock().await.topics.get(topic).and_then(of) {
            return Ok(known);
        }
        let tries = self.tries();
        loop {
            let error = match self.topic(topic, false).await {
                Ok(found) => match of(&found) {
                    Some(leader) => return Ok(leader),
                    None => ClientError::NoLeader { topic: topic.to_owned(), partition },
                },
                Err(error) => error,
            };
            tries.again(error).await?;
        }
    }

    /// Forgets what is known of a topic, after a broker said that it is no longer so.
    pub async fn forget(&self, topic: &str) {
        self.shared.state.lock().await.topics.remove(topic);
    }

    /// The connection to the coordinator of a group.
    pub async fn coordinator(&self, group: &str) -> Result<Arc<Connection>> {
        let tries = self.tries();
        loop {
            match self.find_coordinator(group).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn find_coordinator(&self, group: &str) -> Result<Arc<Connection>> {
        let connection = self.any().await?;
        let version = connection.version::<find_coordinator::Request>(5)?;
        let key = ByteString::from(group);
        let request = match version {
            4.. => find_coordinator::Request { coordinator_keys: vec![key], ..Default::default() },
            _ => find_coordinator::Request { key, ..Default::default() },
        };
        let response = connection.call_as(version, &request, Duration::ZERO).await?;
        let (node_id, code, message) = match response.coordinators.first() {
            Some(found) => (found.node_id, found.error_code, found.error_message.as_ref()),
            None => (response.node_id, response.error_code, response.error_message.as_ref()),
        };
        check(|| format!("coordinator of group {group}"), code, message)?;
        self.to_learned(node_id).await
    }

    async fn to_learned(&self, node_id: i32) -> Result<Arc<Connection>> {
        let known = self.shared.state.lock().await.brokers.contains_key(&node_id);
        if !known {
            self.metadata(Some(&[]), false).await?;
        }
        self.to(node_id).await
    }

    /// Tries that are left from here on.
    pub fn tries(&self) -> Tries {
        let options = &self.shared.options;
        Tries { until: Instant::now() + options.retry_for, pause: options.retry_pause }
    }
}

/// Tries of one call, until its time is over.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    until: Instant,
    pause: Duration,
}

impl Tries {
    /// Returns after a pause if the call may be tried again, or else the error.
    pub async fn again(&self, error: ClientError) -> Result<()> {
        if !error.is_retriable() || Instant::now() >= self.until {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        Ok(())
    }
}

fn topic_of(topic: &metadata::response::Topic) -> Result<Topic> {
    let name = topic.name.as_deref().unwrap_or_default().to_owned();
    check(|| format!("topic {name}"), topic.error_code, None)?;
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: if partition.error_code == ErrorCode::LEADER_NOT_AVAILABLE {
                -1
            } else {
                partition.leader_id
            },
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            in_sync: partition.isr_nodes.clone(),
            offline: partition.offline_replicas.clone(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Ok(Topic { name, id: topic.topic_id, internal: topic.is_internal, partitions })
}
