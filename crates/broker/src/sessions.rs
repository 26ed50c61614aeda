//! Fetch sessions (KIP-227): a consumer names its partitions once and then only what changes; the response holds only
//! partitions with news.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use moldau_base::planted::{Bug, planted};
use moldau_base::{Mono, Rng, TopicPartition, Uuid};
use moldau_controller::Image;
use moldau_wire::ErrorCode;
use moldau_wire::fetch::{Request, request};

use crate::api;
use crate::message::Fetched;

/// A session that was not used for so long may be thrown out for another one, as in Kafka.
const EVICTION_MS: i64 = 120_000;
/// Epochs of a fetch request with a meaning of their own: the first of a session, and none at all.
const FIRST: i32 = 0;
const NONE: i32 = -1;

/// One partition that a client fetches.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The topic's name, in versions before 13.
    pub topic: ByteString,
    /// The topic's id, from version 13 on.
    pub topic_id: Uuid,
    /// The partition's number.
    pub index: i32,
    /// First offset wanted.
    pub offset: i64,
    /// At most this many bytes.
    pub max_bytes: u32,
    /// The client's leader epoch, or -1.
    pub current_epoch: i32,
    /// Epoch of the client's last record, or -1.
    pub last_fetched_epoch: i32,
    /// The partition, or why there is none.
    pub partition: Result<TopicPartition, ErrorCode>,
}

impl Entry {
    fn key(&self) -> Key {
        (self.topic.clone(), self.topic_id, self.index)
    }
}

/// A partition as its client names it.
type Key = (ByteString, Uuid, i32);

/// What a response told about a partition last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    used: Mono,
    /// In the order in which they are looked at: those that had records last go to the end.
    order: Vec<Key>,
    entries: BTreeMap<Key, (Entry, Option<Told>)>,
}

/// How a fetch is bound to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionRef {
    /// No session: everything asked for is answered.
    None,
    /// The first fetch of a session: everything is answered.
    Full(i32),
    /// A later one: only news are answered.
    Incremental(i32),
}

/// The sessions of a shard.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: usize,
    rng: Rng,
    open: BTreeMap<i32, Session>,
}

impl Sessions {
    /// At most `slots` sessions.
    pub(crate) fn new(slots: usize, rng: Rng) -> Sessions {
        Sessions { slots, rng, open: BTreeMap::new() }
    }

    /// The partitions that a request fetches.
    pub(crate) fn open(
        &mut self,
        now: Mono,
        request: &Request,
        version: i16,
        image: &Image,
    ) -> Result<(SessionRef, Vec<Entry>), ErrorCode> {
        let epoch = if version >= 7 { request.session_epoch } else { NONE };
        if epoch == FIRST || epoch == NONE {
            if version >= 7 && request.session_id != 0 {
                self.open.remove(&request.session_id);
            }
            let entries = entries_of(&request.topics, version, image);
            let session = match epoch {
                FIRST => self.create(now, &entries, version >= 13),
                _ => SessionRef::None,
            };
            return Ok((session, entries));
        }
        let session = self.open.get_mut(&request.session_id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != (version >= 13) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.used = now;
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.forget(&request.forgotten_topics_data);
        for entry in entries_of(&request.topics, version, image) {
            session.put(entry);
        }
        Ok((SessionRef::Incremental(request.session_id), session.look(image)))
    }

    fn create(&mut self, now: Mono, entries: &[Entry], by_id: bool) -> SessionRef {
        if entries.is_empty() || !self.make_room(now) {
            return SessionRef::None;
        }
        let id = loop {
            let id = (self.rng.below(i32::MAX as u64 - 1) + 1) as i32;
            if !self.open.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session { epoch: 1, by_id, used: now, order: Vec::new(), entries: BTreeMap::new() };
        entries.iter().for_each(|entry| session.put(entry.clone()));
        self.open.insert(id, session);
        SessionRef::Full(id)
    }

    fn make_room(&mut self, now: Mono) -> bool {
        if self.open.len() < self.slots {
            return true;
        }
        let oldest =
            self.open.iter().min_by_key(|(_, session)| session.used).map(|(id, session)| (*id, session.used));
        match oldest {
            Some((id, used)) if used.after_ms(EVICTION_MS) <= now => self.open.remove(&id).is_some(),
            _ => false,
        }
    }

    /// The session's id for the response, and the results that belong into it.
    pub(crate) fn close(
        &mut self,
        now: Mono,
        session: SessionRef,
        mut results: Vec<(Entry, Fetched)>,
    ) -> (i32, Vec<(Entry, Fetched)>) {
        let (id, only_news) = match session {
            SessionRef::None => return (0, results),
            SessionRef::Full(id) => (id, false),
            SessionRef::Incremental(id) => (id, true),
        };
        let Some(session) = self.open.get_mut(&id) else { return (0, results) };
        session.used = now;
        let mut moved = BTreeSet::new();
        results.retain(|(entry, fetched)| {
            let news = session.tell(entry, fetched);
            if fetched.bytes() > 0 {
                moved.insert(entry.key());
            }
            news || !only_news
        });
        session.order.sort_by_key(|key| moved.contains(key));
        (id, results)
    }
}

impl Session {
    fn put(&mut self, entry: Entry) {
        let key = entry.key();
        match self.entries.get_mut(&key) {
            Some(_) if planted(Bug::SessionStands) => {}
            Some(known) => *known = (entry, None),
            None => {
                self.order.push(key.clone());
                self.entries.insert(key, (entry, None));
            }
        }
    }

    fn forget(&mut self, topics: &[request::ForgottenTopic]) {
        let mut gone = BTreeSet::new();
        for topic in topics {
            for index in &topic.partitions {
                let key = (topic.topic.clone(), topic.topic_id, *index);
                if self.entries.remove(&key).is_some() {
                    gone.insert(key);
                }
            }
        }
        if !gone.is_empty() {
            self.order.retain(|key| !gone.contains(key));
        }
    }

    /// The entries in order; names that meant nothing are looked up again.
    fn look(&mut self, image: &Image) -> Vec<Entry> {
        let mut all = Vec::with_capacity(self.order.len());
        for key in &self.order {
            if let Some((entry, _)) = self.entries.get_mut(key) {
                entry.partition = api::resolve(image, &entry.topic, entry.topic_id, entry.index);
                all.push(entry.clone());
            }
        }
        all
    }

    /// Whether a result says something that the client does not know yet.
    fn tell(&mut self, entry: &Entry, fetched: &Fetched) -> bool {
        let Some((_, told)) = self.entries.get_mut(&entry.key()) else { return true };
        let tells = Told { high_watermark: fetched.high_watermark, log_start: fetched.log_start };
        let before = told.replace(tells);
        if fetched.error.is_err() {
            // Told again as long as it lasts.
            *told = None;
        }
        let elsewhere = fetched.diverging.is_some() || fetched.preferred.is_some();
        before != Some(tells) || fetched.error.is_err() || fetched.bytes() > 0 || elsewhere
    }
}

fn entries_of(topics: &[request::Topic], version: i16, image: &Image) -> Vec<Entry> {
    let by_id = version >= 13;
    let mut all = Vec::new();
    for topic in topics {
        let id = if by_id { topic.topic_id } else { Uuid::ZERO };
        let found = match by_id && topic.topic_id.is_zero() {
            true => Err(ErrorCode::UNKNOWN_TOPIC_ID),
            false => api::find_topic(image, &topic.topic, id),
        };
        all.extend(topic.partitions.iter().map(|partition| Entry {
            topic: topic.topic.clone(),
            topic_id: id,
            index: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: u32::try_from(partition.partition_max_bytes).unwrap_or(0),
            current_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            partition: found.and_then(|topic| api::find_partition(topic, partition.partition)),
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: i16 = 18;

    fn request(session_id: i32, session_epoch: i32, names: bool) -> Request {
        let topic = || request::Topic {
            topic_id: Uuid::random(&mut Rng::seeded(7)),
            partitions: vec![request::Partition::default()],
            ..Default::default()
        };
        Request {
            session_id,
            session_epoch,
            topics: names.then(topic).into_iter().collect(),
            ..Request::default()
        }
    }

    /// The session after a request that finds this high watermark, and whether the partition is in the answer.
    fn answered(sessions: &mut Sessions, request: &Request, high_watermark: i64) -> (i32, bool) {
        let image = Image::new("cluster");
        let (session, entries) = sessions.open(Mono(0), request, VERSION, &image).unwrap();
        let found = Fetched { high_watermark, log_start: 0, ..Fetched::error(ErrorCode::NONE) };
        let results = entries.into_iter().map(|entry| (entry, found.clone())).collect();
        let (id, results) = sessions.close(Mono(0), session, results);
        (id, !results.is_empty())
    }

    #[test]
    fn only_news_are_told() {
        let mut sessions = Sessions::new(1, Rng::seeded(1));
        let (id, told) = answered(&mut sessions, &request(0, FIRST, true), 0);
        assert!(told);
        assert_eq!(answered(&mut sessions, &request(id, 1, false), 0), (id, false));
        assert_eq!(answered(&mut sessions, &request(id, 2, false), 1), (id, true));
        assert_eq!(answered(&mut sessions, &request(id, 3, false), 1), (id, false));
        // Who names a partition again is told again.
        assert_eq!(answered(&mut sessions, &request(id, 4, true), 1), (id, true));
    }
}
