//! Clients over plain sockets: one that says whatever a test wants, and one that behaves and watches that it is served.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;

use bytes::Bytes;
use moldau_batch::{Builder, Codec};
use moldau_wire::header::{RequestHeader, ResponseHeader};
use moldau_wire::{Call, ErrorCode, Message, Reader, Writer, create_topics, fetch, produce};

use crate::process::{Node, PATIENCE, wait_for};

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    pub fn to(node: &Node) -> Client {
        Client::at(node.address())
    }

    pub fn at(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, next: 0 }
    }

    /// Sends a request and returns its answer.
    pub fn call<R: Call>(&mut self, version: i16, request: &R) -> R::Response {
        let frame = frame(self.next, version, request);
        self.next += 1;
        self.stream.write_all(&frame).unwrap();
        let mut reader = Reader::new(self.answer());
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.next - 1);
        R::Response::from_bytes(reader.rest(), version).unwrap()
    }

    /// The next frame that comes, without its length.
    pub fn answer(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        frame.into()
    }

    /// Sends bytes as they are; that the other side has gone is no failure.
    pub fn say(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_gone(error.kind()), "{error}");
        }
    }

    /// Expects that the node ends the connection without having answered anything.
    pub fn expect_closed(mut self) {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Ok(n) => panic!("{n} bytes instead of an end"),
            Err(error) => assert!(is_gone(error.kind()), "the connection is still open: {error}"),
        }
    }

    /// Produces to partition 0 and returns what became of it.
    pub fn produce(&mut self, topic: &str, records: Bytes) -> produce::response::Partition {
        let mut response = self.produce_as(9, topic, records);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// The same in another version of the protocol, with all of the answer.
    pub fn produce_as(&mut self, version: i16, topic: &str, records: Bytes) -> produce::Response {
        let partition = produce::request::Partition { index: 0, records: Some(records) };
        let topic = produce::request::Topic {
            name: topic.into(),
            partition_data: vec![partition],
            ..Default::default()
        };
        let request =
            produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        self.call(version, &request)
    }

    /// What is stored from this offset on, in its first batches.
    pub fn fetch(&mut self, topic: &str, offset: i64) -> fetch::response::Partition {
        let mut response = self.call(11, &fetch_request(topic, offset, 1 << 20));
        assert_eq!(response.error_code, ErrorCode::NONE);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Creates a topic of one partition.
    pub fn create(&mut self, topic: &str) -> create_topics::response::Topic {
        let topic = create_topics::request::Topic {
            name: topic.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request =
            create_topics::Request { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        self.call(5, &request).topics.remove(0)
    }
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// A whole request with its length.
pub fn frame<R: Call>(correlation: i32, version: i16, request: &R) -> Bytes {
    let mut writer = Writer::frame();
    let header = RequestHeader {
        request_api_key: R::KEY as i16,
        request_api_version: version,
        correlation_id: correlation,
        client_id: Some("hostile".into()),
    };
    header.encode(&mut writer, R::KEY.request_header_version(version));
    request.encode(&mut writer, version);
    writer.finish().unwrap().into_bytes().unwrap()
}

/// A fetch of partition 0 that answers at once.
pub fn fetch_request(topic: &str, offset: i64, max_bytes: i32) -> fetch::Request {
    let partition = fetch::request::Partition {
        fetch_offset: offset,
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    let topic =
        fetch::request::Topic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    fetch::Request { max_bytes, topics: vec![topic], ..Default::default() }
}

/// A batch of one record, of this moment: an old one would be what retention is there to delete.
pub fn batch(value: &[u8]) -> Bytes {
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut builder = Builder::new(Codec::None);
    builder.push(age.as_millis() as i64, None, Some(value), &[]);
    builder.build().unwrap()
}

/// The well-behaved client: it produces a record and reads it back, whenever it is asked to.
pub struct Witness {
    client: Client,
    topic: String,
    next: i64,
}

impl Witness {
    /// A topic of its own, and a first record in it.
    pub fn of(node: &Node, topic: &str) -> Witness {
        let mut client = Client::to(node);
        assert_eq!(client.create(topic).error_code, ErrorCode::NONE);
        let mut witness = Witness { client, topic: topic.to_owned(), next: 0 };
        witness.is_served();
        witness
    }

    /// The same topic on a node that has started again.
    pub fn again(self, node: &Node) -> Witness {
        Witness { client: Client::to(node), ..self }
    }

    /// Produces one record, whose offset is the next, and reads it.
    pub fn is_served(&mut self) {
        let produced = self.client.produce(&self.topic, batch(value(self.next).as_bytes()));
        assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, self.next));
        self.holds(self.next);
        self.next += 1;
    }

    /// Reads every record that was ever acknowledged, and knows that there is none besides.
    pub fn finds_everything(&mut self) {
        wait_for("the leader to be back", || {
            let fetched = self.client.fetch(&self.topic, 0);
            (fetched.error_code == ErrorCode::NONE).then_some(())
        });
        for offset in 0..self.next {
            self.holds(offset);
        }
        assert_eq!(self.client.fetch(&self.topic, self.next).high_watermark, self.next);
    }

    fn holds(&mut self, offset: i64) {
        let fetched = self.client.fetch(&self.topic, offset);
        assert_eq!(fetched.error_code, ErrorCode::NONE);
        let moldau_wire::Records::Bytes(bytes) = fetched.records else { panic!("no records at {offset}") };
        let stored = moldau_batch::Batch::verify(&bytes).unwrap();
        assert_eq!(stored.header().base_offset, offset);
        let value = value(offset);
        assert!(stored.bytes().windows(value.len()).any(|window| window == value.as_bytes()));
    }
}

fn value(offset: i64) -> String {
    format!("the record at {offset}.")
}
