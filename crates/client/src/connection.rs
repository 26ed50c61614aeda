//! One connection to one broker: requests go out in order, answers come back in the same order.
//!
//! A task of its own reads answers and hands each to the call that waits for it. The number of requests in flight
//! and the size of an answer are bounded. When the connection breaks, every waiting call learns it at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use moldau_wire::frame::{LENGTH_PREFIX, body_length};
use moldau_wire::header::{RequestHeader, ResponseHeader};
use moldau_wire::{ApiKey, Call, ErrorCode, Message, Reader, VersionRange, Writer, api_versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, oneshot};

use crate::client::Options;
use crate::error::ClientError;

/// A connection to a broker, with the versions that both sides know.
#[derive(Debug)]
pub struct Connection {
    address: String,
    client_id: ByteString,
    timeout: Duration,
    writer: tokio::sync::Mutex<WriteSide>,
    waiting: Arc<Waiting>,
    in_flight: Semaphore,
    versions: Vec<(i16, VersionRange)>,
    reader: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct WriteSide {
    half: OwnedWriteHalf,
    next_correlation_id: i32,
}

/// A call that waits: its correlation id, and where its answer goes.
type Waiter = (i32, oneshot::Sender<Bytes>);

/// Calls that wait for their answer, oldest first; none once the connection is broken.
#[derive(Debug)]
struct Waiting {
    queue: Mutex<Option<VecDeque<Waiter>>>,
    reason: Mutex<Option<String>>,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { queue: Mutex::new(Some(VecDeque::new())), reason: Mutex::new(None) }
    }

    /// Marks the connection as broken; every waiting call's sender is dropped, which wakes it.
    fn close(&self, reason: Option<String>) {
        lock(&self.reason).get_or_insert_with(|| reason.unwrap_or_default());
        *lock(&self.queue) = None;
    }

    /// Queues a call; false if the connection is broken.
    fn push(&self, correlation_id: i32, answer: oneshot::Sender<Bytes>) -> bool {
        match lock(&self.queue).as_mut() {
            Some(queue) => queue.push_back((correlation_id, answer)),
            None => return false,
        }
        true
    }

    fn pop(&self) -> Option<Waiter> {
        lock(&self.queue).as_mut()?.pop_front()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Connection {
    /// Connects and asks for the broker's API versions.
    pub async fn open(address: &str, options: &Options) -> crate::Result<Connection> {
        let failed = |cause| ClientError::Connect { address: address.to_owned(), cause };
        let connecting = tokio::time::timeout(options.connect_timeout, TcpStream::connect(address));
        let timed_out = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
        let stream = connecting.await.map_err(|_| failed(timed_out()))?.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read_half, half) = stream.into_split();
        let waiting = Arc::new(Waiting::new());
        let reading =
            read_answers(read_half, Arc::clone(&waiting), options.response_bytes, address.to_owned());
        let reader = tokio::spawn(reading).abort_handle();
        let mut connection = Connection {
            address: address.to_owned(),
            client_id: options.client_id.clone(),
            timeout: options.request_timeout,
            writer: tokio::sync::Mutex::new(WriteSide { half, next_correlation_id: 0 }),
            waiting,
            in_flight: Semaphore::new(options.in_flight),
            versions: Vec::new(),
            reader,
        };
        connection.versions = connection.ask_versions().await?;
        Ok(connection)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// True once the connection is broken.
    pub fn is_closed(&self) -> bool {
        lock(&self.waiting.queue).is_none()
    }

    /// The versions of every API that the broker advertised, by key.
    pub fn advertised(&self) -> &[(i16, VersionRange)] {
        &self.versions
    }

    /// The newest version that both sides know and that is not above `at_most`.
    pub fn version<R: Call>(&self, at_most: i16) -> crate::Result<i16> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(at_most) };
        let theirs = self.versions.iter().find(|(key, _)| *key == R::KEY as i16).map(|(_, range)| *range);
        let common = theirs.and_then(|theirs| theirs.intersection(ours));
        let unsupported = || ClientError::Unsupported { api: R::KEY, address: self.address.clone() };
        common.map(|range| range.max).ok_or_else(unsupported)
    }

    /// Sends a request in the newest common version and waits for the answer.
    pub async fn call<R: Call>(&self, request: R) -> crate::Result<R::Response> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_as(version, &request, Duration::ZERO).await
    }

    /// Sends a request in this version; `extra` is the time that the broker was asked to wait before it answers.
    pub async fn call_as<R: Call>(
        &self,
        version: i16,
        request: &R,
        extra: Duration,
    ) -> crate::Result<R::Response> {
        let within = self.timeout + extra;
        match tokio::time::timeout(within, self.round_trip(version, request)).await {
            Ok(done) => self.decode::<R>(version, done?),
            Err(_) => Err(ClientError::Timeout { api: R::KEY, address: self.address.clone(), after: within }),
        }
    }

    /// Sends a request that has no answer: a produce request with acks=0.
    pub async fn send<R: Call>(&self, version: i16, request: &R) -> crate::Result<()> {
        self.write(version, request, None).await
    }

    async fn round_trip<R: Call>(&self, version: i16, request: &R) -> crate::Result<Bytes> {
        let closed = || self.closed_error();
        let _permit = self.in_flight.acquire().await.map_err(|_| closed())?;
        let (sender, receiver) = oneshot::channel();
        self.write(version, request, Some(sender)).await?;
        receiver.await.map_err(|_| closed())
    }

    /// Writes under the lock that also orders the queue of waiting calls. A write that is abandoned half way would
    /// leave the stream unreadable for the broker, so whoever gives up a call closes nothing: the lock is held
    /// until the write ends, and a cancelled write marks the connection as broken.
    async fn write<R: Call>(
        &self,
        version: i16,
        request: &R,
        answer: Option<oneshot::Sender<Bytes>>,
    ) -> crate::Result<()> {
        let mut side = self.writer.lock().await;
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let correlation_id = side.next_correlation_id;
        side.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        let frame = self.frame(correlation_id, version, request)?;
        if let Some(answer) = answer
            && !self.waiting.push(correlation_id, answer)
        {
            return Err(self.closed_error());
        }
        let guard = BrokenUnlessDone { waiting: &self.waiting, done: false };
        let written = write_frame(&mut side.half, frame).await;
        guard.finish(written).map_err(|_| self.closed_error())
    }

    fn frame<R: Call>(&self, correlation_id: i32, version: i16, request: &R) -> crate::Result<Vec<Bytes>> {
        let mut writer = Writer::frame();
        let header = RequestHeader {
            request_api_key: R::KEY as i16,
            request_api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        header.encode(&mut writer, R::KEY.request_header_version(version));
        request.encode(&mut writer, version);
        let frame = writer.finish()?;
        Ok(frame
            .segments
            .into_iter()
            .filter_map(|segment| match segment {
                moldau_wire::Segment::Bytes(bytes) => Some(bytes),
                moldau_wire::Segment::File(_) => None,
            })
            .collect())
    }

    fn decode<R: Call>(&self, version: i16, frame: Bytes) -> crate::Result<R::Response> {
        let bad = |cause| ClientError::Decode { address: self.address.clone(), cause };
        let mut reader = Reader::new(frame);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).map_err(bad)?;
        R::Response::from_bytes(reader.rest(), version).map_err(bad)
    }

    fn closed_error(&self) -> ClientError {
        let reason = lock(&self.waiting.reason).clone().filter(|reason| !reason.is_empty());
        ClientError::Closed { address: self.address.clone(), reason }
    }

    /// A broker that does not know our newest version of ApiVersions answers with error 35 in version 0.
    async fn ask_versions(&self) -> crate::Result<Vec<(i16, VersionRange)>> {
        let request = api_versions::Request {
            client_software_name: ByteString::from_static("moldau"),
            client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
        };
        for version in [api_versions::Request::VERSIONS.max.min(4), 0] {
            let request = if version >= 3 { request.clone() } else { api_versions::Request::default() };
            let asking = self.round_trip(version, &request);
            let late = |_| ClientError::Timeout {
                api: ApiKey::ApiVersions,
                address: self.address.clone(),
                after: self.timeout,
            };
            let frame = tokio::time::timeout(self.timeout, asking).await.map_err(late)??;
            let refused = frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()[..]);
            if refused && version > 0 {
                continue;
            }
            let response = self.decode::<api_versions::Request>(version, frame)?;
            crate::error::check(|| format!("ApiVersions of {}", self.address), response.error_code, None)?;
            let range = |api: &api_versions::response::Api| {
                (api.api_key, VersionRange { min: api.min_version, max: api.max_version })
            };
            return Ok(response.api_keys.iter().map(range).collect());
        }
        Err(ClientError::Unsupported { api: ApiKey::ApiVersions, address: self.address.clone() })
    }
}

struct BrokenUnlessDone<'a> {
    waiting: &'a Waiting,
    done: bool,
}

impl BrokenUnlessDone<'_> {
    fn finish(mut self, written: std::io::Result<()>) -> std::io::Result<()> {
        self.done = true;
        if let Err(error) = &written {
            self.waiting.close(Some(error.to_string()));
        }
        written
    }
}

impl Drop for BrokenUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.waiting.close(Some("a request was given up while it was written".to_owned()));
        }
    }
}

async fn write_frame(half: &mut OwnedWriteHalf, segments: Vec<Bytes>) -> std::io::Result<()> {
    for segment in segments {
        half.write_all(&segment).await?;
    }
    Ok(())
}

async fn read_answers(mut half: OwnedReadHalf, waiting: Arc<Waiting>, limit: u32, address: String) {
    loop {
        let frame = match read_frame(&mut half, limit, &address).await {
            Ok(frame) => frame,
            Err(reason) => return waiting.close(reason),
        };
        let correlation_id = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
        match waiting.pop() {
            Some((expected, answer)) if Some(expected) == correlation_id => drop(answer.send(frame)),
            _ => return waiting.close(Some("an answer that belongs to no request".to_owned())),
        }
    }
}

/// The next frame, or the reason why there is none.
async fn read_frame(half: &mut OwnedReadHalf, limit: u32, address: &str) -> Result<Bytes, Option<String>> {
    let mut prefix = [0; LENGTH_PREFIX];
    half.read_exact(&mut prefix).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => None,
        _ => Some(error.to_string()),
    })?;
    let bad = |cause| Some(ClientError::Frame { address: address.to_owned(), cause }.to_string());
    let length = body_length(prefix, limit).map_err(bad)?;
    let mut body = BytesMut::zeroed(length);
    half.read_exact(&mut body).await.map_err(|error| Some(error.to_string()))?;
    Ok(body.freeze())
}
