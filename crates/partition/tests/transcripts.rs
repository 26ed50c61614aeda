//! Plays `tests/transcripts/*.txt`: what a partition answers to what happens to it.
//!
//! Commands: `open start= end= hw=`, `lead epoch= pe= replicas= isr= min_isr=`, `follow epoch= [leader=]`, `stop WHY [epoch=]`,
//! `produce NAME acks=|standing batches= [append_time=]`, `turned_away batches=` (the log takes nothing for now), `stored END`, `taken_back END`, `start OFFSET`, `wait NAME view= [offset=] beyond= [told= [node=]]`, `cancel NAME`,
//! `expire after=`, `time MS`, `min_isr N`, `full` and `small_segments` (why the log will not take the next append),
//! `ask [epoch=]` (leader epoch check and ListOffsets), `show`, `producers`, `restart` (from the log alone).
//!
//! To a leader: `follower node= end= [broker=] [registered=|fenced] [epoch=]` (a fetch), `gone node=`, `tick`, `deadline`, `pass MS` (time goes on until then, with a tick at each
//! deadline),
//! `accepted pe= isr=`, `refused`, `stale`, `unknown` (with `of=`, the partition epoch of the proposal, and `epoch=` its leader epoch).
//!
//! To a follower: `wants`, `fetched [epoch=] [offset=] hw= [start=] [batches=EPOCH@OFFSET:BATCH,…]`, `diverging leader=EPOCH@END|none own=EPOCH@END|none`,
//! `out_of_range start=`, `truncated END`, `replayed` (from the log).
//! A batch is `xN` (N records), or `PID/EPOCH/SEQUENCExN` with `t` after it when transactional, or `PID/EPOCH/commit`.

use bytes::Bytes;
use moldau_base::{BrokerEpoch, LeaderEpoch, Mono, NodeId, Now, PartitionEpoch};
use moldau_batch::{Batch, Builder, Codec, Header, Marker, Outcome, Stamp};
use moldau_check::transcript::{Line, check_dir};
use moldau_partition::{
    Acks, Effect, EpochEnd, Fetched, FollowerFetch, Following, Input, IsrAnswer, Leadership, LogState, News,
    Partition, Patience, Producers, Proposal, Refusal, Token, Told, View,
};

#[test]
fn transcripts() {
    check_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"), || {
        let mut world = World::default();
        move |line: &Line| world.run(line)
    });
}

struct World {
    partition: Partition,
    now_ms: i64,
    names: Vec<String>,
    /// What the log says to the next append.
    failure: Option<Refusal>,
    /// What the log has: the snapshot of an empty log is empty.
    log: Vec<(Header, Option<Marker>)>,
}

impl Default for World {
    fn default() -> World {
        let partition = Partition::new(NodeId(1), LogState::default(), Producers::default());
        World { partition, now_ms: 0, names: Vec::new(), failure: None, log: Vec::new() }
    }
}

impl World {
    fn run(&mut self, line: &Line) -> String {
        match line.verb() {
            "open" => self.open(line),
            "full" => self.failure = Some(Refusal::Storage),
            "small_segments" => self.failure = Some(Refusal::TooLarge),
            "time" => self.now_ms = number(line),
            "lead" => return self.step(Input::Lead(leadership(line)), &[]),
            "min_isr" => return self.step(Input::MinIsr(number(line)), &[]),
            "stop" => {
                let refusal = match line.word(0) {
                    "moved" => Refusal::NotLeader,
                    "deleted" => Refusal::Deleted,
                    "disk" => Refusal::Storage,
                    other => panic!("stop for {other}?"),
                };
                return self.step(Input::Stop { epoch: line.number("epoch").map(LeaderEpoch), refusal }, &[]);
            }
            "produce" => return self.produce(line),
            "turned_away" => return self.step(Input::Refused { batches: &self.batches(line) }, &[]),
            "stored" => return self.step(Input::Stored { end_offset: number(line) }, &[]),
            "taken_back" => {
                let end_offset = number(line);
                self.log.retain(|(header, _)| header.base_offset < end_offset);
                return self.step(Input::TakenBack { end_offset }, &[]);
            }
            "start" => return self.step(Input::LogStart { offset: number(line) }, &[]),
            "wait" => {
                let token = self.token(line.word(0));
                let view = match line.get("view").unwrap_or("replicated") {
                    "committed" => View::Committed,
                    "replicated" => View::Replicated,
                    "stored" => View::Stored,
                    other => panic!("view {other}?"),
                };
                let beyond = line.number("beyond").unwrap();
                let offset = line.number("offset").unwrap_or(beyond);
                let node = NodeId(line.number("node").unwrap_or(2));
                let known = |high_watermark| Told { node, high_watermark };
                let told = line.number("told").map(known);
                return self.step(Input::Wait { token, view, offset, beyond, told }, &[]);
            }
            "cancel" => {
                let token = self.token(line.word(0));
                return self.step(Input::Cancel { token }, &[]);
            }
            "expire" => return self.step(Input::Expire { after_ms: line.number("after").unwrap() }, &[]),
            "ask" => return self.ask(line),
            "show" => return self.show(),
            "producers" => return self.producers(),
            "restart" => return self.restart(),
            verb => return self.run_replication(verb, line),
        }
        String::new()
    }

    fn run_replication(&mut self, verb: &str, line: &Line) -> String {
        let epoch = line.number("epoch").map_or(self.partition.epoch(), LeaderEpoch);
        let (hw, start) = (line.number("hw").unwrap_or(0), line.number("start").unwrap_or(0));
        match verb {
            "follow" => {
                let leader = line.number("leader").map(NodeId);
                self.step(Input::Follow(Following { epoch, leader }), &[])
            }
            "follower" => {
                let broker = line.number("broker").unwrap_or(0);
                let registered = line.number("registered").or((!line.has("fenced")).then_some(broker));
                let fetch = FollowerFetch {
                    node: NodeId(line.number("node").unwrap()),
                    broker_epoch: BrokerEpoch(broker),
                    registered: registered.map(BrokerEpoch),
                    leader_epoch: epoch,
                    offset: line.number("end").unwrap(),
                };
                self.step(Input::FollowerFetch(fetch), &[])
            }
            "gone" => self.step(Input::Gone { node: NodeId(line.number("node").unwrap()) }, &[]),
            "tick" => self.step(Input::Tick, &[]),
            "pass" => self.pass(number(line)),
            "deadline" => {
                self.partition.deadline().map_or("none".to_owned(), |at| (at.0 / 1_000_000).to_string())
            }
            "accepted" | "refused" | "stale" | "unknown" => self.isr_answer(verb, line),
            "wants" => self.partition.to_fetch().map_or("nothing".to_owned(), |fetch| {
                format!("from {} in epoch {} at {}", fetch.leader, fetch.leader_epoch, fetch.offset)
            }),
            "fetched" => {
                let batches: Vec<Batch> =
                    line.list("batches").into_iter().map(|text| placed(text, self.now_ms)).collect();
                self.fetched(line, (hw, start), News::Batches(&batches))
            }
            "diverging" => {
                let (leader, own) = (epoch_end(line, "leader"), epoch_end(line, "own"));
                self.fetched(line, (hw, start), News::Diverging { leader, own })
            }
            "out_of_range" => self.fetched(line, (hw, start), News::OutOfRange),
            "truncated" => {
                let end_offset = number(line);
                self.log.retain(|(header, _)| header.base_offset < end_offset);
                self.step(Input::Truncated { end_offset }, &[])
            }
            "replayed" => self.step(Input::Replayed { producers: self.replay() }, &[]),
            other => panic!("{other}?"),
        }
    }

    fn pass(&mut self, until_ms: i64) -> String {
        let mut said = String::new();
        for _ in 0..1_000 {
            let Some(at) = self.partition.deadline().filter(|at| *at <= Mono(until_ms as u64 * 1_000_000))
            else {
                self.now_ms = until_ms;
                return said;
            };
            self.now_ms = self.now_ms.max((at.0 / 1_000_000) as i64);
            let answer = self.step(Input::Tick, &[]);
            if !answer.is_empty() {
                said += &format!("at {}: {answer}", self.now_ms);
            }
        }
        panic!("the deadline does not move");
    }

    fn isr_answer(&mut self, verb: &str, line: &Line) -> String {
        let answer = match verb {
            "accepted" => IsrAnswer::Accepted {
                partition_epoch: PartitionEpoch(line.number("pe").unwrap()),
                isr: nodes(line, "isr"),
            },
            "refused" => IsrAnswer::Refused,
            "stale" => IsrAnswer::Stale,
            _ => IsrAnswer::Unknown,
        };
        let current = self.partition.leadership().map_or(PartitionEpoch(-1), |l| l.partition_epoch);
        let partition_epoch = line.number("of").map_or(current, PartitionEpoch);
        let leader_epoch = line.number("epoch").map_or(self.partition.epoch(), LeaderEpoch);
        self.step(Input::IsrAnswer { leader_epoch, partition_epoch, answer }, &[])
    }

    fn fetched(
        &mut self,
        line: &Line,
        (high_watermark, log_start_offset): (i64, i64),
        news: News<'_>,
    ) -> String {
        let wanted = self.partition.to_fetch().map(|fetch| fetch.offset);
        let offset = line.number("offset").or(wanted).unwrap_or(-1);
        let leader_epoch = line.number("epoch").map_or(self.partition.epoch(), LeaderEpoch);
        let batches = if let News::Batches(batches) = news { batches } else { &[] };
        self.step(
            Input::Fetched(Fetched { leader_epoch, offset, high_watermark, log_start_offset, news }),
            batches,
        )
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.now_ms, mono: Mono(self.now_ms as u64 * 1_000_000) }
    }

    fn token(&mut self, name: &str) -> Token {
        let known = self.names.iter().position(|n| n == name);
        Token(known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }) as u64)
    }

    fn open(&mut self, line: &Line) {
        let log = LogState {
            start_offset: line.number("start").unwrap_or(0),
            end_offset: line.number("end").unwrap_or(0),
            high_watermark: line.number("hw").unwrap_or(0),
        };
        self.partition = Partition::new(NodeId(1), log, Producers::default());
    }

    fn produce(&mut self, line: &Line) -> String {
        let token = self.token(line.word(0));
        let acks = match line.has("standing") {
            true => Acks::Standing,
            false => Acks::from_wire(line.number("acks").unwrap_or(-1)).unwrap(),
        };
        let batches = self.batches(line);
        self.step(
            Input::Produce { token, acks, batches: &batches, append_time: line.number("append_time") },
            &batches,
        )
    }

    fn batches(&self, line: &Line) -> Vec<Batch> {
        line.list("batches").into_iter().map(|text| batch(text, self.now_ms)).collect()
    }

    fn step(&mut self, input: Input<'_>, batches: &[Batch]) -> String {
        let mut out = Vec::new();
        self.partition.step(self.now(), input, &mut out);
        let mut said = String::new();
        for effect in out {
            said += &self.tell(&effect);
            said.push('\n');
            if let Effect::Append { token, append_time, .. } = effect {
                said += &self.append(token, append_time, batches);
            } else if let Effect::AppendFetched { count } = effect {
                said += &self.append_fetched(&batches[..count]);
            }
        }
        said
    }

    /// The log's part of what a follower fetched.
    fn append_fetched(&mut self, batches: &[Batch]) -> String {
        if self.failure.take().is_some() {
            return self.step(Input::FetchedNotAppended, &[]);
        }
        self.log.extend(batches.iter().map(|batch| (*batch.header(), batch.marker())));
        self.step(Input::FetchedAppended { batches }, &[])
    }

    /// The log's part.
    fn append(&mut self, token: Token, append_time: Option<i64>, batches: &[Batch]) -> String {
        if let Some(refusal) = self.failure.take() {
            return self.step(Input::NotAppended { token, refusal }, &[]);
        }
        let base_offset = self.partition.log_end_offset();
        let mut end = base_offset;
        for batch in batches {
            let max_timestamp = append_time.unwrap_or(batch.header().max_timestamp);
            let header = Header { base_offset: end, max_timestamp, ..*batch.header() };
            end = header.next_offset();
            self.log.push((header, batch.marker()));
        }
        self.step(Input::Appended { token, base_offset, batches }, &[])
    }

    fn tell(&self, effect: &Effect) -> String {
        let name = |token: &Token| &self.names[token.0 as usize];
        match effect {
            Effect::StartEpoch { epoch, start_offset } => format!("epoch {epoch} starts at {start_offset}"),
            Effect::Append { token, epoch, append_time } => {
                let base_offset = self.partition.log_end_offset();
                let time = append_time.map_or(String::new(), |ms| format!(", append time {ms}"));
                format!("append {} at {base_offset} in epoch {epoch}{time}", name(token))
            }
            Effect::HighWatermark { offset } => format!("high watermark {offset}"),
            Effect::Acknowledge { token, base_offset, append_time, .. } => {
                let time = if *append_time < 0 { String::new() } else { format!(", time {append_time}") };
                format!("acknowledge {} at {base_offset}{time}", name(token))
            }
            Effect::Refuse { token, refusal } => format!("refuse {}: {}", name(token), kafka(*refusal)),
            Effect::Wake { token } => format!("wake {}", name(token)),
            Effect::ProposeIsr(Proposal { leader_epoch, partition_epoch, isr }) => {
                let member = |&(node, broker): &(NodeId, Option<BrokerEpoch>)| {
                    node.to_string() + &broker.map_or(String::new(), |epoch| format!("/{epoch}"))
                };
                let isr: Vec<String> = isr.iter().map(member).collect();
                format!("propose isr {} of epoch {leader_epoch}.{partition_epoch}", isr.join(","))
            }
            Effect::AppendFetched { count } => {
                let end = self.partition.log_end_offset();
                format!("append {count} fetched at {end}")
            }
            Effect::Truncate { offset } => format!("truncate to {offset}"),
            Effect::Restart { offset } => format!("restart at {offset}"),
            Effect::ReplayProducers => "replay producers".to_owned(),
            Effect::MoveLogStart { offset } => format!("move log start to {offset}"),
        }
    }

    fn ask(&self, line: &Line) -> String {
        let epoch = self.partition.check_epoch(line.number("epoch")).map_or_else(kafka, str_ok);
        let latest = self.partition.latest(View::Replicated).map_or_else(kafka, |offset| offset.to_string());
        format!("epoch: {epoch}, latest: {latest}")
    }

    fn show(&self) -> String {
        let p = &self.partition;
        let role = if p.to_fetch().is_some() { "follower" } else { "no leader" };
        let role = p.leadership().map_or(role.to_owned(), |l| {
            format!("leader, isr {:?}", l.isr.iter().map(|n| n.0).collect::<Vec<_>>())
        });
        let (start, end, high, stable) =
            (p.log_start_offset(), p.log_end_offset(), p.high_watermark(), p.last_stable_offset());
        format!(
            "epoch {} {role}: start {start}, end {end}, high watermark {high}, last stable {stable}",
            p.epoch()
        )
    }

    fn producers(&self) -> String {
        let row = |e: moldau_base::ProducerEntry| {
            let or_none = |n: Option<i64>| n.map_or("none".to_owned(), |n| n.to_string());
            let (sequence, offset) = (or_none(e.last_sequence.map(i64::from)), or_none(e.last_offset));
            format!(
                "producer {} epoch {}: last sequence {sequence}, last offset {offset}, open since {}\n",
                e.producer_id,
                e.epoch,
                or_none(e.txn_first_offset)
            )
        };
        let rows: String = self.partition.producers().entries().map(row).collect();
        if rows.is_empty() { "none".to_owned() } else { rows }
    }

    fn replay(&self) -> Producers {
        let mut producers = Producers::default();
        for (header, marker) in &self.log {
            producers.apply(header, *marker, self.now().mono);
        }
        producers
    }

    fn restart(&mut self) -> String {
        let producers = self.replay();
        let (start_offset, end_offset) = (
            self.partition.log_start_offset(),
            self.log.last().map_or(0, |(header, _)| header.next_offset()),
        );
        let log = LogState { start_offset, end_offset, high_watermark: self.partition.high_watermark() };
        self.partition = Partition::new(NodeId(1), log, producers);
        self.show()
    }
}

fn str_ok((): ()) -> String {
    "ok".to_owned()
}

fn kafka(refusal: Refusal) -> String {
    let name = match refusal {
        Refusal::Deleted => "UNKNOWN_TOPIC_OR_PARTITION",
        Refusal::NotLeader => "NOT_LEADER_OR_FOLLOWER",
        Refusal::Storage => "KAFKA_STORAGE_ERROR",
        Refusal::FencedLeaderEpoch => "FENCED_LEADER_EPOCH",
        Refusal::UnknownLeaderEpoch => "UNKNOWN_LEADER_EPOCH",
        Refusal::TooLarge => "RECORD_LIST_TOO_LARGE",
        Refusal::NotEnoughReplicas => "NOT_ENOUGH_REPLICAS",
        Refusal::NotEnoughReplicasAfterAppend => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        Refusal::InvalidProducerEpoch => "INVALID_PRODUCER_EPOCH",
        Refusal::OutOfOrderSequence => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        Refusal::DuplicateSequence => "DUPLICATE_SEQUENCE_NUMBER",
        Refusal::InvalidTxnState => "INVALID_TXN_STATE",
        Refusal::OffsetNotAvailable => "OFFSET_NOT_AVAILABLE",
    };
    format!("{name}({})", refusal.code())
}

fn number<T: std::str::FromStr>(line: &Line) -> T {
    line.word(0).parse().unwrap_or_else(|_| panic!("`{}`: not a number", line.text()))
}

fn nodes(line: &Line, name: &str) -> Box<[NodeId]> {
    let nodes: Vec<NodeId> = line.list(name).into_iter().map(|id| NodeId(id.parse().unwrap())).collect();
    if nodes.is_empty() { Box::new([NodeId(1)]) } else { nodes.into() }
}

fn leadership(line: &Line) -> Leadership {
    Leadership {
        epoch: LeaderEpoch(line.number("epoch").unwrap()),
        partition_epoch: PartitionEpoch(line.number("pe").unwrap_or(0)),
        replicas: nodes(line, "replicas"),
        isr: nodes(line, "isr"),
        min_isr: line.number("min_isr").unwrap_or(1),
        patience: Patience::default(),
    }
}

fn batch(text: &str, now_ms: i64) -> Batch {
    let parts: Vec<&str> = text.split('/').collect();
    let builder = match parts[..] {
        [count] => records(Builder::new(Codec::None), count, now_ms),
        [id, epoch, "commit"] => {
            let marker = Marker { outcome: Outcome::Commit, coordinator_epoch: 0 };
            Builder::marker(id.parse().unwrap(), epoch.parse().unwrap(), marker, now_ms)
        }
        [id, epoch, rest] => {
            let (sequence, count) = rest.split_once('x').unwrap();
            let builder = Builder::new(Codec::None).producer(
                id.parse().unwrap(),
                epoch.parse().unwrap(),
                sequence.parse().unwrap(),
            );
            records(builder, count, now_ms)
        }
        _ => panic!("batch {text}?"),
    };
    Batch::verify(&builder.build().unwrap()).unwrap()
}

fn records(mut builder: Builder, count: &str, now_ms: i64) -> Builder {
    let count = count.trim_start_matches('x');
    if count.ends_with('t') {
        builder = builder.transactional();
    }
    for _ in 0..count.trim_end_matches('t').parse::<usize>().unwrap() {
        builder.push(now_ms, None, Some(b"v"), &[]);
    }
    builder
}

/// A batch of a leader: `EPOCH@OFFSET:BATCH`.
fn placed(text: &str, now_ms: i64) -> Batch {
    let (place, rest) = text.split_once(':').unwrap();
    let (epoch, offset) = place.split_once('@').unwrap();
    let plain = batch(rest, now_ms);
    let stamp = Stamp::new(plain.header(), offset.parse().unwrap(), epoch.parse().unwrap());
    Batch::verify(&Bytes::from(stamp.parts(plain.bytes()).concat())).unwrap()
}

fn epoch_end(line: &Line, name: &str) -> Option<EpochEnd> {
    let (epoch, end) = line.get(name)?.split_once('@')?;
    Some(EpochEnd { epoch: LeaderEpoch(epoch.parse().unwrap()), end_offset: end.parse().unwrap() })
}
