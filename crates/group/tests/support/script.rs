//! The words of a transcript: commands in, answers out.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_group::request::*;
use moldau_group::{Config, DeletedTopic, Input};
use moldau_wire::ErrorCode;

use super::host::{Host, Log, Said};

/// What a client knows of itself.
#[derive(Clone, Default)]
struct Client {
    member_id: ByteString,
    generation: i32,
}

/// One transcript.
#[derive(Default)]
pub struct Script {
    config: Config,
    host: Option<Host>,
    clients: BTreeMap<String, Client>,
    /// Who sent each request.
    senders: Vec<String>,
    /// Long member ids and what they are called.
    names: BTreeMap<String, String>,
}

/// A command taken apart: words, and `key=value` pairs.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Words<'a> {
        let mut words = Words { plain: Vec::new(), named: BTreeMap::new() };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => _ = words.named.insert(key, value),
                None => words.plain.push(word),
            }
        }
        words
    }

    fn text(&self, key: &str) -> Option<ByteString> {
        self.named.get(key).map(|value| ByteString::from(*value))
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        let values = self.named.get(key).map(|value| value.split(','));
        values.into_iter().flatten().filter(|value| !value.is_empty()).collect()
    }

    fn number(&self, key: &str, default: i64) -> i64 {
        self.named.get(key).map_or(default, |value| value.parse().expect("a number"))
    }

    fn time(&self, key: &str, default: &str) -> i32 {
        millis(self.named.get(key).copied().unwrap_or(default)) as i32
    }
}

/// `3s`, `500ms`, `7d`, `-1ms`.
fn millis(text: &str) -> i64 {
    let units = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<i64>().ok());
    units.iter().find_map(|(unit, ms)| Some(number(unit)? * ms)).expect("a time such as 3s")
}

fn topic_partition(text: &str) -> (ByteString, i32) {
    let (topic, partition) = text.rsplit_once('-').expect("a partition such as t1-0");
    (ByteString::from(topic), partition.parse().expect("a partition number"))
}

impl Script {
    /// Runs a command and returns what was said.
    pub fn run(&mut self, command: &str) -> Vec<String> {
        let (subject, rest) = command.split_once(' ').unwrap_or((command, ""));
        if let Some(who) = subject.strip_suffix(':') {
            return match who {
                "log" => self.log(rest),
                _ => self.client(who, rest),
            };
        }
        let words = Words::of(rest);
        let said = match subject {
            "config" => return self.configure(&words),
            "wait" => return self.wait(words.plain[0]),
            "restart" => self.host().restart(),
            "topic-deleted" => {
                let id = self.topic_id(words.number("id", 0));
                let name = ByteString::from(words.plain[0]);
                self.host().step(Input::TopicsDeleted(vec![DeletedTopic { name, id }]))
            }
            other => panic!("there is no command {other}"),
        };
        said.into_iter().map(|said| self.tell(said)).collect()
    }

    fn host(&mut self) -> &mut Host {
        self.host.get_or_insert_with(|| Host::new(self.config.clone(), 1))
    }

    fn topic_id(&self, number: i64) -> Uuid {
        Uuid((number as u128).to_be_bytes())
    }

    fn configure(&mut self, words: &Words) -> Vec<String> {
        let config = &mut self.config;
        for (key, value) in &words.named {
            match *key {
                "group.initial.rebalance.delay.ms" => {
                    config.initial_rebalance_delay_ms = value.parse().expect("ms");
                }
                "group.max.size" => config.max_size = value.parse().expect("size"),
                "offset.metadata.max.bytes" => {
                    config.offset_metadata_max_bytes = value.parse().expect("bytes")
                }
                "offsets.retention" => config.offsets_retention_ms = millis(value),
                other => panic!("there is no key {other} here"),
            }
        }
        if let Some(host) = &mut self.host {
            host.config = self.config.clone();
        }
        Vec::new()
    }

    fn wait(&mut self, time: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let start = self.host().now.mono;
        self.host().wait(millis(time) as u64, |host, said| {
            heard.push((host.now.mono.since(start).as_millis(), said));
        });
        heard.into_iter().map(|(ms, said)| format!("after {ms} ms: {}", self.tell(said))).collect()
    }

    fn log(&mut self, rest: &str) -> Vec<String> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words[0] {
            "hold" => self.host().mode = Log::Hold,
            "fail" => self.host().mode = Log::Fail(code(words[1])),
            "doubt" => self.host().mode = Log::Doubt(code(words[1])),
            "commit" => {
                self.host().mode = Log::Commit;
                let mut said = Vec::new();
                while !self.host().held.is_empty() {
                    said.extend(self.host().commit_one());
                }
                return said.into_iter().map(|said| self.tell(said)).collect();
            }
            other => panic!("a log cannot {other}"),
        }
        Vec::new()
    }

    fn client(&mut self, who: &str, rest: &str) -> Vec<String> {
        let mut words = Words::of(rest);
        let verb = words.plain.remove(0);
        if verb == "gone" {
            let token = self.senders.iter().rposition(|sender| sender == who).expect("a request") as u64;
            self.host().step(Input::Abandon { token });
            return Vec::new();
        }
        let request = match verb {
            "join" => Request::Join(self.join(who, &words)),
            "sync" => Request::Sync(self.sync(who, &words)),
            "heartbeat" => Request::Heartbeat(Heartbeat {
                group: ByteString::from(words.plain[0]),
                generation: self.generation(who, &words),
                member_id: self.member(who, &words),
                group_instance_id: words.text("instance"),
            }),
            "leave" => Request::Leave(self.leave(who, &words)),
            "commit" => Request::OffsetCommit(self.commit(who, &words)),
            "fetch" => Request::OffsetFetch(self.fetch(&words)),
            "delete-offsets" => Request::OffsetDelete(OffsetDelete {
                group: ByteString::from(words.plain[0]),
                topics: words.plain[1..]
                    .iter()
                    .map(|tp| topic_partition(tp))
                    .map(|(t, p)| (t, vec![p]))
                    .collect(),
            }),
            "list" => Request::ListGroups(ListGroups {
                states: words.list("states").into_iter().map(ByteString::from).collect(),
                types: words.list("types").into_iter().map(ByteString::from).collect(),
            }),
            "describe" => Request::DescribeGroups(DescribeGroups {
                groups: words.plain.iter().copied().map(ByteString::from).collect(),
                knows_group_id_not_found: words.number("v", 6) >= 6,
            }),
            "delete" => Request::DeleteGroups(DeleteGroups {
                groups: words.plain.iter().copied().map(ByteString::from).collect(),
            }),
            other => panic!("a client cannot {other}"),
        };
        let token = self.senders.len() as u64;
        self.senders.push(who.to_owned());
        let said = self.host().request(token, request);
        said.into_iter().map(|said| self.tell(said)).collect()
    }

    /// `member=` if given, else what the client knows.
    fn member(&self, who: &str, words: &Words) -> ByteString {
        match words.named.get("member") {
            Some(name) => self.long(name),
            None => self.clients.get(who).map(|client| client.member_id.clone()).unwrap_or_default(),
        }
    }

    fn generation(&self, who: &str, words: &Words) -> i32 {
        let known = self.clients.get(who).map_or(-1, |client| client.generation);
        words.number("generation", i64::from(known)) as i32
    }

    fn long(&self, name: &str) -> ByteString {
        let known = self.names.iter().find(|(_, short)| *short == name);
        ByteString::from(known.map_or(name, |(long, _)| long))
    }

    fn join(&self, who: &str, words: &Words) -> Join {
        let protocol_type = words.text("type").unwrap_or(ByteString::from_static("consumer"));
        let metadata = match &*protocol_type {
            "consumer" => subscription(&words.list("topics")),
            _ => Bytes::from(words.list("topics").join(",")),
        };
        let mut names = words.list("protocols");
        if !words.named.contains_key("protocols") {
            names.push("range");
        }
        let protocols = names.into_iter();
        let protocols = protocols.map(|name| Protocol { name: name.into(), metadata: metadata.clone() });
        let again = words.plain.contains(&"again") || words.named.contains_key("member");
        let version = words.number("v", 9);
        Join {
            group: ByteString::from(words.plain[0]),
            session_timeout_ms: words.time("session", "10s"),
            rebalance_timeout_ms: words.time("rebalance", "60s"),
            member_id: if again { self.member(who, words) } else { ByteString::new() },
            group_instance_id: words.text("instance"),
            protocol_type,
            protocols: protocols.collect(),
            client_id: ByteString::from(who),
            client_host: ByteString::from_static("/127.0.0.1"),
            knows_member_id_required: version >= 4,
            knows_skip_assignment: version >= 9,
        }
    }

    fn sync(&self, who: &str, words: &Words) -> Sync {
        let assignments = words.named.get("assign").map(|text| text.split(';')).into_iter().flatten();
        let assignments = assignments.map(|one| {
            let (member, assignment) = one.split_once(':').expect("member:assignment");
            (self.long(member), Bytes::from(assignment.to_owned()))
        });
        Sync {
            group: ByteString::from(words.plain[0]),
            generation: self.generation(who, words),
            member_id: self.member(who, words),
            group_instance_id: words.text("instance"),
            protocol_type: words.text("type"),
            protocol: words.text("protocol"),
            assignments: assignments.collect(),
        }
    }

    fn leave(&self, who: &str, words: &Words) -> Leave {
        let mut members: Vec<LeavingMember> = Vec::new();
        for name in words.list("members") {
            let (member, instance) = name.split_once('@').map_or((name, None), |(m, i)| (m, Some(i)));
            members.push(LeavingMember {
                member_id: self.long(member),
                group_instance_id: instance.map(ByteString::from),
            });
        }
        if members.is_empty() {
            let group_instance_id = words.text("instance");
            members.push(LeavingMember { member_id: self.member(who, words), group_instance_id });
        }
        Leave { group: ByteString::from(words.plain[0]), members }
    }

    fn commit(&self, who: &str, words: &Words) -> OffsetCommit {
        let simple = words.plain.contains(&"simple");
        let mut topics: Vec<CommitTopic> = Vec::new();
        for (key, value) in words.named.iter().filter(|(key, _)| key.contains('-')) {
            let (name, partition) = topic_partition(key);
            let partition = CommitPartition {
                partition,
                offset: value.parse().expect("an offset"),
                leader_epoch: words.number("epoch", -1) as i32,
                metadata: words.text("meta").unwrap_or_default(),
            };
            topics.push(CommitTopic {
                name,
                topic_id: self.topic_id(words.number("id", 0)),
                partitions: vec![partition],
            });
        }
        OffsetCommit {
            group: ByteString::from(words.plain[0]),
            generation: if simple { -1 } else { self.generation(who, words) },
            member_id: if simple { ByteString::new() } else { self.member(who, words) },
            group_instance_id: words.text("instance"),
            retention_ms: i64::from(words.time("retention", "-1ms")),
            knows_group_id_not_found: words.number("v", 9) >= 9,
            topics,
        }
    }

    fn fetch(&self, words: &Words) -> OffsetFetch {
        let mut wanted: Vec<FetchTopic> = Vec::new();
        for text in words.plain[1..].iter().filter(|text| **text != "stable") {
            let (name, partition) = topic_partition(text);
            let topic_id = self.topic_id(words.number("id", 0));
            wanted.push(FetchTopic { name, topic_id, partitions: vec![partition] });
        }
        let topics = (!wanted.is_empty()).then_some(wanted);
        let groups =
            words.plain[0].split(',').map(|group| FetchGroup { group: group.into(), topics: topics.clone() });
        OffsetFetch { groups: groups.collect(), require_stable: words.plain.contains(&"stable") }
    }

    /// What was said, in words, with short names for members.
    fn tell(&mut self, said: Said) -> String {
        let text = match said {
            Said::Written(record) => format!("log: {record}"),
            Said::Refused(record) => format!("log refuses: {record}"),
            Said::Reply(token, reply) => {
                let who = self.senders[token as usize].clone();
                if let Reply::Join(join) = &reply {
                    let client = self.clients.entry(who.clone()).or_default();
                    client.member_id = join.member_id.clone();
                    client.generation = join.generation;
                }
                format!("{who} <- {}", answer(&reply))
            }
        };
        self.shorten(&text)
    }

    /// Puts `alice-1` in place of `alice-` and a UUID.
    fn shorten(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some(range) = find_member_id(&text) {
            let long = text[range.clone()].to_owned();
            let prefix = long[..long.len() - 36].to_owned();
            let count = self.names.keys().filter(|known| known.starts_with(&prefix)).count();
            let short = self.names.entry(long).or_insert_with(|| format!("{prefix}{}", count + 1)).clone();
            text.replace_range(range, &short);
        }
        text
    }
}

fn find_member_id(text: &str) -> Option<std::ops::Range<usize>> {
    let is_uuid = |word: &[u8]| {
        word.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
    };
    let bytes = text.as_bytes();
    let at =
        (1..bytes.len().saturating_sub(35)).find(|&i| bytes[i - 1] == b'-' && is_uuid(&bytes[i..i + 36]))?;
    let prefix = bytes[..at - 1].iter().rposition(|b| !b.is_ascii_alphanumeric()).map_or(0, |i| i + 1);
    Some(prefix..at + 36)
}

/// A `ConsumerProtocolSubscription` of version 0.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn answer(reply: &Reply) -> String {
    match reply {
        Reply::Join(join) => answer_join(join),
        Reply::Sync(sync) if sync.error.is_err() => format!("sync {}", sync.error),
        Reply::Sync(sync) => format!("sync {:?}", String::from_utf8_lossy(&sync.assignment)),
        Reply::Heartbeat(error) => format!("heartbeat {error}"),
        Reply::Leave(leave) => {
            let members = leave.members.iter();
            let members = members.map(|left| {
                let instance = left.group_instance_id.as_ref().map(|i| format!("@{i}")).unwrap_or_default();
                format!("{}{instance} {}", left.member_id, left.error)
            });
            format!("leave {}: {}", leave.error, members.collect::<Vec<_>>().join(", "))
        }
        Reply::OffsetCommit(topics) => {
            let partitions = topics.iter().flat_map(|t| t.partitions.iter().map(move |(p, e)| (t, p, e)));
            let lines = partitions.map(|(t, p, e)| format!("{}-{p} {e}", t.name));
            format!("commit {}", lines.collect::<Vec<_>>().join(", "))
        }
        Reply::OffsetFetch(groups) => groups.iter().map(answer_fetched).collect::<Vec<_>>().join(" | "),
        Reply::OffsetDelete(delete) => {
            let partitions = delete.topics.iter().flat_map(|(t, ps)| ps.iter().map(move |(p, e)| (t, p, e)));
            let lines = partitions.map(|(t, p, e)| format!("{t}-{p} {e}"));
            format!("delete-offsets {}: {}", delete.error, lines.collect::<Vec<_>>().join(", "))
        }
        Reply::ListGroups(list) => {
            let groups = list.groups.iter();
            let groups =
                groups.map(|g| format!("{} {:?} {} {}", g.group, &*g.protocol_type, g.state, g.group_type));
            format!("list {}: {}", list.error, groups.collect::<Vec<_>>().join(", "))
        }
        Reply::DescribeGroups(groups) => groups.iter().map(answer_described).collect::<Vec<_>>().join(" | "),
        Reply::DeleteGroups(groups) => {
            let groups = groups.iter().map(|deleted| format!("{} {}", deleted.group, deleted.error));
            format!("delete {}", groups.collect::<Vec<_>>().join(", "))
        }
    }
}

fn answer_join(join: &JoinReply) -> String {
    if join.error.is_err() {
        return format!("join {} as {:?}", join.error, &*join.member_id);
    }
    let mut text = format!(
        "join generation {} as {} leader {} {}/{}",
        join.generation,
        join.member_id,
        join.leader,
        join.protocol_type.as_deref().unwrap_or("-"),
        join.protocol.as_deref().unwrap_or("-"),
    );
    if join.skip_assignment {
        text.push_str(" skip-assignment");
    }
    if !join.members.is_empty() {
        let members = join.members.iter().map(|member| &*member.member_id).collect::<Vec<_>>();
        text.push_str(&format!(" members {}", members.join(", ")));
    }
    text
}

fn answer_fetched(group: &FetchedGroup) -> String {
    let partitions = group.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    let lines = partitions.map(|(topic, p)| {
        let epoch = if p.leader_epoch >= 0 { format!(" epoch {}", p.leader_epoch) } else { String::new() };
        let meta = if p.metadata.is_empty() { String::new() } else { format!(" {:?}", &*p.metadata) };
        format!("{}-{} {}{epoch}{meta}", topic.name, p.partition, p.offset)
    });
    format!("offsets of {} {}: {}", group.group, group.error, lines.collect::<Vec<_>>().join(", "))
}

fn answer_described(group: &DescribedGroup) -> String {
    let members = group.members.iter().map(|member| {
        let instance = member.group_instance_id.as_ref().map(|i| format!("@{i}")).unwrap_or_default();
        format!("{}{instance} {:?}", member.member_id, String::from_utf8_lossy(&member.assignment))
    });
    let message = group.error_message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
    format!(
        "group {} {}{message} {} {}/{}: {}",
        group.group,
        group.error,
        group.state,
        group.protocol_type,
        group.protocol,
        members.collect::<Vec<_>>().join(", ")
    )
}

fn code(name: &str) -> ErrorCode {
    ErrorCode::all().find(|code| code.name() == name).expect("an error code")
}
