//! One blocking connection to a broker, for what is asked once: versions, topics, the first record, the first batch.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use moldau_wire::header::ResponseHeader;
use moldau_wire::{
    Call, ErrorCode, Message, Reader, Request, api_versions, create_topics, delete_topics, encode_request,
    frame, list_offsets, metadata,
};

use crate::pump::read_some;

/// The longest response that a link takes.
const RESPONSE_LIMIT: u32 = 64 * 1024 * 1024;
/// What asks for the end of a partition.
const LATEST: i64 = -1;
/// How long an answer may take: a broker may make ten thousand partitions before it gives one.
const ANSWER_WAIT: Duration = Duration::from_secs(150);
/// How long a topic may take until all its partitions have leaders.
const TOPIC_WAIT: Duration = Duration::from_secs(180);

/// What the load generator calls itself to brokers.
pub const CLIENT_ID: &str = "moldau-bench";

/// A connection whose broker has said what it speaks.
pub struct Link {
    stream: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
    served: Vec<api_versions::response::Api>,
}

impl Link {
    /// Connects and asks for the versions.
    pub fn open(address: SocketAddr) -> Result<Link> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let mut link = Link { stream, buffer: BytesMut::new(), correlation_id: 0, served: Vec::new() };
        let request = api_versions::Request {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer = link.ask(3, request)?;
        ok(answer.error_code, "ApiVersions")?;
        link.served = answer.api_keys;
        Ok(link)
    }

    /// Sends one request in a version that the broker advertised, and waits for the answer.
    pub fn call<R: Call + Into<Request>>(&mut self, version: i16, request: R) -> Result<R::Response> {
        self.need::<R>(version)?;
        self.ask(version, request)
    }

    /// Refuses unless the broker advertised this version.
    pub fn need<R: Call>(&self, version: i16) -> Result<()> {
        let key = R::KEY as i16;
        let serves = self
            .served
            .iter()
            .any(|api| api.api_key == key && (api.min_version..=api.max_version).contains(&version));
        ensure!(serves, "the broker does not serve {} version {version}", R::KEY);
        Ok(())
    }

    fn ask<R: Call + Into<Request>>(&mut self, version: i16, request: R) -> Result<R::Response> {
        self.correlation_id += 1;
        let request = encode_request(self.correlation_id, Some(CLIENT_ID.into()), version, &request.into())?;
        self.stream.write_all(&request.into_bytes()?)?;
        let mut reader = Reader::new(self.frame()?);
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version))?;
        ensure!(header.correlation_id == self.correlation_id, "an answer to another request");
        Ok(R::Response::from_bytes(reader.rest(), version)?)
    }

    fn frame(&mut self) -> Result<Bytes> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, RESPONSE_LIMIT)? {
                return Ok(frame);
            }
            match read_some(&mut self.stream, &mut chunk).context("no answer of the broker")? {
                0 => bail!("the broker closed the connection"),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Makes the topic unless it is there, and waits until each partition has a leader that leads.
    pub fn topic(&mut self, name: &str, partitions: i32) -> Result<()> {
        self.topic_with(name, partitions, &[])
    }

    /// The same with a configuration.
    pub fn topic_with(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let config = |(name, value): &(&str, &str)| create_topics::request::Config {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = create_topics::request::Topic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request =
            create_topics::Request { topics: vec![topic], timeout_ms: 120_000, ..Default::default() };
        for topic in self.call(5, request)?.topics {
            if topic.error_code != ErrorCode::TOPIC_ALREADY_EXISTS {
                ok(topic.error_code, "CreateTopics")?;
            }
        }
        let deadline = Instant::now() + TOPIC_WAIT;
        let mut pause = Duration::from_millis(1);
        // Metadata may name leaders before they lead: only they themselves can say that they do.
        while !(self.has_leaders(name, partitions)? && self.leads(name, partitions)?) {
            ensure!(Instant::now() < deadline, "topic {name} has no leaders after {TOPIC_WAIT:?}");
            sleep(pause);
            // Many partitions make a long answer: asking for it must not be what the broker is busy with.
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Deletes the topic.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let request = delete_topics::Request {
            topic_names: vec![name.into()],
            timeout_ms: 30_000,
            ..Default::default()
        };
        for topic in self.call(3, request)?.responses {
            ok(topic.error_code, "DeleteTopics")?;
        }
        Ok(())
    }

    fn has_leaders(&mut self, name: &str, partitions: i32) -> Result<bool> {
        let topic = metadata::request::Topic { name: Some(ByteString::from(name)), ..Default::default() };
        let request = metadata::Request {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.call(8, request)?;
        let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let led = all.filter(|partition| partition.error_code.is_ok() && partition.leader_id >= 0).count();
        Ok(led == usize::try_from(partitions)?)
    }

    fn leads(&mut self, name: &str, partitions: i32) -> Result<bool> {
        let partition = |index| list_offsets::request::Partition {
            partition_index: index,
            timestamp: LATEST,
            ..Default::default()
        };
        let topic = list_offsets::request::Topic {
            name: name.into(),
            partitions: (0..partitions).map(partition).collect(),
        };
        let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
        let answer = self.call(1, request)?;
        Ok(answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .all(|partition| partition.error_code.is_ok()))
    }
}

/// An error code as an error.
pub fn ok(code: ErrorCode, what: &str) -> Result<()> {
    ensure!(code.is_ok(), "{what}: {}, {}", code.name(), code.message());
    Ok(())
}
