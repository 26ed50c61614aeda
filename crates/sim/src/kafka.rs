//! A Kafka client's connection: greets the broker with ApiVersions, picks a version per API as clients of all ages would,
//! pipelines requests and pairs answers with them. Everything goes through the wire crate's client side.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Mono;
use moldau_wire::header::{RequestHeader, ResponseHeader};
use moldau_wire::{ApiKey, Call, Message, Reader, VersionRange, Writer, api_versions};

use crate::cx::{Conn, Cx, Gone};

/// A client gives up an answer after this long, as `request.timeout.ms` says.
const REQUEST_TIMEOUT_MS: u64 = 30_000;

/// The same in a cluster, where runs are not longer and another node may know better.
const CLUSTER_TIMEOUT_MS: u64 = 8_000;
/// A client of a cluster gives up a connection that is not made after this long.
const CONNECT_MS: u64 = 2_000;

/// A connection that has greeted.
#[derive(Clone)]
pub struct Kafka(Rc<Inner>);

struct Inner {
    cx: Cx,
    conn: Conn,
    versions: RefCell<BTreeMap<ApiKey, i16>>,
    newest: RefCell<BTreeMap<ApiKey, i16>>,
    calls: RefCell<Calls>,
    leader_epoch: Cell<Option<i32>>,
}

#[derive(Default)]
struct Calls {
    next: i32,
    expected: VecDeque<i32>,
    answers: BTreeMap<i32, Bytes>,
}

/// A request that was sent.
pub struct Pending<C> {
    kafka: Kafka,
    correlation: i32,
    version: i16,
    /// When it was sent.
    pub asked: Mono,
    call: PhantomData<C>,
}

impl Kafka {
    /// Connects, trying until it works or `tries` are used up.
    pub async fn connect(cx: &Cx, tries: u32) -> Result<Kafka, Gone> {
        for attempt in 0..tries {
            if attempt > 0 {
                cx.pause_ms(20, 400).await;
            }
            let connected = match cx.nodes() {
                1 => cx.connect().await,
                _ => cx.within_ms(CONNECT_MS, cx.connect()).await.unwrap_or(Err(Gone)),
            };
            let Ok(conn) = connected else { continue };
            if let Ok(kafka) = Kafka::over(cx, conn).await {
                return Ok(kafka);
            }
        }
        Err(Gone)
    }

    /// Connects to a node, by its place.
    pub async fn connect_to(cx: &Cx, node: usize) -> Result<Kafka, Gone> {
        let conn = cx.within_ms(CONNECT_MS, cx.connect_to(node)).await.unwrap_or(Err(Gone))?;
        Kafka::over(cx, conn).await
    }

    async fn over(cx: &Cx, conn: Conn) -> Result<Kafka, Gone> {
        let kafka = Kafka(Rc::new(Inner {
            cx: cx.clone(),
            conn,
            versions: RefCell::default(),
            newest: RefCell::default(),
            calls: RefCell::default(),
            leader_epoch: Cell::default(),
        }));
        kafka.greet().await.map(|()| kafka)
    }

    /// Connects, however long it takes.
    pub async fn connect_at_last(cx: &Cx) -> Kafka {
        loop {
            if let Ok(kafka) = Kafka::connect(cx, 100).await {
                return kafka;
            }
        }
    }

    async fn greet(&self) -> Result<(), Gone> {
        let version = self.pick(ApiKey::ApiVersions.versions());
        self.0.versions.borrow_mut().insert(ApiKey::ApiVersions, version);
        let request = api_versions::Request {
            client_software_name: ByteString::from_static("moldau-sim"),
            client_software_version: ByteString::from_static("1"),
        };
        let response = self.call(request).await?;
        if response.error_code.is_err() {
            self.0.cx.problem(format!("ApiVersions v{version} was refused: {:?}", response.error_code));
            return Err(Gone);
        }
        for api in &response.api_keys {
            let Some(key) = ApiKey::from_code(api.api_key) else { continue };
            let theirs = VersionRange { min: api.min_version, max: api.max_version };
            if let Some(common) = key.versions().intersection(theirs) {
                self.0.versions.borrow_mut().insert(key, self.pick(common));
                self.0.newest.borrow_mut().insert(key, common.max);
            }
        }
        Ok(())
    }

    /// The newest version half of the time, any other otherwise.
    fn pick(&self, range: VersionRange) -> i16 {
        let all = u64::try_from(range.max - range.min).unwrap_or(0) + 1;
        let back = if self.0.cx.one_in(2) { 0 } else { self.0.cx.draw(|rng| rng.below(all)) };
        range.max - back as i16
    }

    /// The version in which this connection speaks an API; `None` when the broker does not.
    pub fn version(&self, key: ApiKey) -> Option<i16> {
        self.0.versions.borrow().get(&key).copied()
    }

    /// Speaks an API in the newest version that both sides know.
    pub fn use_newest(&self, key: ApiKey) {
        if let Some(newest) = self.0.newest.borrow().get(&key) {
            self.0.versions.borrow_mut().insert(key, *newest);
        }
    }

    /// In a cluster: the leader epoch in which the node is believed to lead the partition that this connection is for.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.0.leader_epoch.get()
    }

    /// The node leads the partition that this connection is for, in this epoch.
    pub fn leads_in(&self, epoch: i32) {
        self.0.leader_epoch.set(Some(epoch));
    }

    /// Whether nothing more will be answered.
    pub fn is_closed(&self) -> bool {
        self.0.conn.is_closed()
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.0.conn.close();
    }

    /// Leaves the connection without a word.
    pub fn vanish(&self) {
        self.0.conn.vanish();
    }

    /// Reads nothing for a while.
    pub fn stall_ms(&self, ms: u64) {
        self.0.conn.stall_ms(ms);
    }

    /// Sends a request and waits for its answer.
    pub async fn call<C: Call>(&self, request: C) -> Result<C::Response, Gone> {
        self.start(request)?.answer().await
    }

    /// As [`Kafka::call`], and when the request was sent.
    pub async fn call_at<C: Call>(&self, request: C) -> Result<(Mono, C::Response), Gone> {
        let pending = self.start(request)?;
        let asked = pending.asked;
        Ok((asked, pending.answer().await?))
    }

    /// Sends a request.
    pub fn start<C: Call>(&self, request: C) -> Result<Pending<C>, Gone> {
        let correlation = self.send(&request)?;
        self.0.calls.borrow_mut().expected.push_back(correlation);
        let version = self.version(C::KEY).ok_or(Gone)?;
        let asked = self.0.cx.now();
        Ok(Pending { kafka: self.clone(), correlation, version, asked, call: PhantomData })
    }

    /// Sends a request that has no answer (a produce request with `acks=0`); its correlation id.
    pub fn send<C: Call>(&self, request: &C) -> Result<i32, Gone> {
        let Some(version) = self.version(C::KEY) else {
            self.0.cx.problem(format!("the broker does not serve {}", C::KEY));
            return Err(Gone);
        };
        if self.is_closed() {
            return Err(Gone);
        }
        let correlation = {
            let mut calls = self.0.calls.borrow_mut();
            calls.next += 1;
            calls.next
        };
        let mut writer = Writer::frame();
        let header = RequestHeader {
            request_api_key: C::KEY as i16,
            request_api_version: version,
            correlation_id: correlation,
            client_id: Some(ByteString::from(self.0.cx.client().to_string())),
        };
        header.encode(&mut writer, C::KEY.request_header_version(version));
        request.encode(&mut writer, version);
        match writer.finish().and_then(moldau_wire::Frame::into_bytes) {
            Ok(bytes) => self.0.conn.send(bytes),
            Err(error) => {
                self.0.cx.problem(format!("{} v{version} does not encode: {error}", C::KEY));
                return Err(Gone);
            }
        }
        self.0.cx.count("requests", 1);
        Ok(correlation)
    }

    /// Waits for the frame that answers `correlation`; answers come in the order of the requests. Several tasks may wait on one
    /// connection: whoever is woken sorts in what has come.
    async fn frame(&self, correlation: i32) -> Result<Bytes, Gone> {
        let mine = self.0.conn.sorted(|frames| {
            let mut calls = self.0.calls.borrow_mut();
            while let Some(frame) = frames.pop_front() {
                let got = frame.first_chunk().map(|id| i32::from_be_bytes(*id));
                let expected = calls.expected.pop_front();
                match got.filter(|_| got == expected) {
                    Some(got) => drop(calls.answers.insert(got, frame)),
                    None => return Some(Err((got, expected))),
                }
            }
            calls.answers.remove(&correlation).map(Ok)
        });
        mine.await?.map_err(|(got, expected)| {
            self.0.cx.problem(format!("the answer to {got:?} came where that to {expected:?} was due"));
            Gone
        })
    }
}

impl<C: Call> Pending<C> {
    /// Waits for the answer; an answer that takes too long closes the connection.
    pub async fn answer(self) -> Result<C::Response, Gone> {
        let cx = &self.kafka.0.cx;
        let patience = if cx.nodes() == 1 { REQUEST_TIMEOUT_MS } else { CLUSTER_TIMEOUT_MS };
        let Some(frame) = cx.within_ms(patience, self.kafka.frame(self.correlation)).await else {
            cx.say(|| format!("{} was not answered in time", C::KEY));
            cx.count("timeouts", 1);
            self.kafka.close();
            return Err(Gone);
        };
        let mut reader = Reader::new(frame?);
        let header = C::KEY.response_header_version(self.version);
        let response = ResponseHeader::decode(&mut reader, header)
            .and_then(|_| C::Response::decode(&mut reader, self.version))
            .and_then(|response| reader.finish().map(|()| response));
        response.map_err(|error| {
            cx.problem(format!("the answer to {} v{} does not decode: {error}", C::KEY, self.version));
            Gone
        })
    }
}
