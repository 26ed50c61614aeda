//! The log in plain text: `tests/transcripts/*.txt`, rewritten with `UPDATE_TRANSCRIPTS=1`.

mod model;

use std::fmt::Write as _;

use moldau_base::disk::{DirId, Disk, Path};
use moldau_base::{LeaderEpoch, Mono, Now, ProducerEntry, Rng, Uuid};
use moldau_batch::Header;
use moldau_check::transcript::{Line, check_dir};
use moldau_storage::names::{LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT};
use moldau_storage::{
    Depth, Events, FileIds, Log, LogConfig, Read, ReadRequest, RecoveryPolicy, State, dump, encode_offsets,
    mark_clean, recover,
};

use model::{Crash, Host, Pace, producer_batch};

const NAME: &str = "orders-3";
const DIR: DirId = DirId(0);

struct World {
    host: Host,
    files: FileIds,
    log: Log,
    config: LogConfig,
    now: Now,
    producers: Vec<ProducerEntry>,
    shown: usize,
}

impl World {
    fn new() -> World {
        let config = LogConfig { segment_bytes: 4096, index_interval_bytes: 512, ..LogConfig::default() };
        let mut files = FileIds::new(0);
        let log = Log::create(0, &mut files, DIR, NAME.into(), Uuid([7; 16]), config);
        let now = Now { wall_ms: 1_000_000, mono: Mono(0) };
        World { host: Host::new(Pace::AtOnce), files, log, config, now, producers: Vec::new(), shown: 0 }
    }

    fn play(&mut self, line: &Line) -> String {
        let mut answer = String::new();
        match line.verb() {
            "config" => self.configure(line),
            "append" => self.append(line, &mut answer),
            "tick" => self.tick(line),
            "retain" => self.retain(line),
            "flush" => {
                self.log.flush(self.now, &mut || self.producers.clone());
            }
            "hold" => self.host.pace = Pace::Held,
            "hold-files" => self.host.pace = Pace::FilesHeld,
            "go" => {
                if line.has("last-first") {
                    self.host.reverse();
                }
                self.host.pace = Pace::AtOnce;
            }
            "read" => self.read(line, &mut answer),
            "find" => {
                let timestamp = line.number("timestamp").expect("a timestamp");
                let read = self.log.find_timestamp(&mut self.host.cache, timestamp, self.log.stored_offset());
                self.answer(read, &mut answer);
            }
            "newest" => {
                let read = self.log.max_timestamp(&mut self.host.cache, self.log.stored_offset());
                self.answer(read, &mut answer);
            }
            "truncate" => {
                let to = line.number("to").expect("an offset");
                self.log.truncate(self.now, &mut self.host.cache, to);
            }
            "delete-records" => {
                self.log.delete_records(self.now, line.number("before").expect("an offset"));
            }
            "delete" => self.log.delete(),
            "space" => self.host.disk.limit_space(line.number("bytes")),
            "refuse-renames" => {
                self.host.disk.refuse_renames(line.number("times").unwrap_or(0));
            }
            "fail" => self.host.disk.fail(line.get("file")),
            "checkpoint" => self.checkpoint(),
            "stop" => mark_clean(&self.host.disk, DIR, 1).expect("a marker"),
            "crash" => self.crash(line, &mut answer),
            "damage" => {
                let name = line.get("file").expect("a file");
                self.host.disk.damage(name, line.number("at").expect("a position"));
            }
            "shorten" => {
                let path = Path::new(DIR, line.get("file").expect("a file"));
                self.host.disk.truncate(&path, line.number("to").expect("a length")).expect("a cut");
            }
            "remove" => {
                let name = line.get("file").expect("a file");
                self.host.disk.remove(&Path::new(DIR, name)).expect("a removal");
            }
            "dump" => self.dump(&mut answer),
            "files" => {
                for (name, len) in self.host.disk.files() {
                    let _ = writeln!(answer, "{name} {len}");
                }
                return answer;
            }
            other => panic!("no command {other}"),
        }
        self.host.run(&mut self.log, self.now);
        let events = self.log.take_events();
        self.show(&events, line.has("quiet"), &mut answer);
        answer
    }

    fn configure(&mut self, line: &Line) {
        let c = &mut self.config;
        c.segment_bytes = line.number("segment.bytes").unwrap_or(c.segment_bytes);
        c.segment_ms = line.number("segment.ms").unwrap_or(c.segment_ms);
        c.retention_bytes = line.number("retention.bytes").unwrap_or(c.retention_bytes);
        c.retention_ms = line.number("retention.ms").unwrap_or(c.retention_ms);
        c.flush_messages = line.number("flush.messages").unwrap_or(c.flush_messages);
        c.index_interval_bytes = line.number("index.interval.bytes").unwrap_or(c.index_interval_bytes);
        self.log.set_config(self.config);
    }

    fn append(&mut self, line: &Line, answer: &mut String) {
        let at = line.number("at").unwrap_or(self.now.wall_ms);
        let (records, size) = (line.number("records").unwrap_or(1), line.number("size").unwrap_or(100));
        let count = line.number("batches").unwrap_or(1);
        let producer = line.number("pid").map(|id| (id, 0, line.number("seq").unwrap_or(0)));
        let batches: Vec<_> = (0..count).map(|_| producer_batch(producer, records, size, at)).collect();
        let epoch = LeaderEpoch(line.number("epoch").unwrap_or(0));
        let time = line.number("append_time");
        match self.log.append(self.now, epoch, time, &batches, &mut || self.producers.clone()) {
            Ok(appended) => {
                let _ = writeln!(answer, "offsets {}-{}", appended.base_offset, appended.last_offset);
                if let Some((producer_id, epoch, first)) = producer {
                    let delta = records - 1;
                    self.producers.retain(|p| p.producer_id != producer_id);
                    self.producers.push(ProducerEntry {
                        producer_id,
                        epoch,
                        last_sequence: Some(first + delta),
                        last_offset: Some(appended.last_offset),
                        offset_delta: delta,
                        timestamp: at,
                        coordinator_epoch: None,
                        txn_first_offset: None,
                    });
                }
            }
            Err(error) => {
                let _ = writeln!(answer, "refused: {error}");
            }
        }
    }

    fn tick(&mut self, line: &Line) {
        self.now = self.now.after_ms(line.number("ms").unwrap_or(0));
        self.log.tick(self.now, &mut || self.producers.clone());
    }

    fn retain(&mut self, line: &Line) {
        self.now = self.now.after_ms(line.number("ms").unwrap_or(0));
        let high_watermark = line.number("hw").unwrap_or(self.log.stored_offset());
        self.log.retention_pass(self.now, high_watermark, &mut || self.producers.clone());
    }

    fn read(&mut self, line: &Line, answer: &mut String) {
        let request = ReadRequest {
            offset: line.number("offset").expect("an offset"),
            max_bytes: line.number("max").unwrap_or(1 << 20),
            min_one_batch: line.has("one"),
            upto: line.number("upto").unwrap_or(i64::MAX),
        };
        let read = self.log.read(&mut self.host.cache, request);
        self.answer(read, answer);
    }

    fn answer(&mut self, read: Read, answer: &mut String) {
        let (read, events) = self.host.wait(&mut self.log, self.now, read);
        let _ = match read {
            Read::Ready(range) => {
                let bytes = self.host.bytes(&range);
                let mut at = 0;
                let mut batches = 0;
                let first = Header::parse(&bytes).map(|header| header.base_offset).unwrap_or(-1);
                while let Ok(header) = Header::verify(bytes.get(at..).unwrap_or_default()) {
                    at += header.size();
                    batches += 1;
                }
                let whole = if at == bytes.len() { "" } else { ", NOT WHOLE" };
                writeln!(
                    answer,
                    "offsets {}-{} at {}+{}, {batches} batches{whole}",
                    first,
                    range.next_offset - 1,
                    range.position,
                    range.len
                )
            }
            Read::Bytes(chunk) => {
                let header = Header::verify(&chunk.bytes).expect("a batch");
                writeln!(
                    answer,
                    "batch of offsets {}-{}, newest {}",
                    header.base_offset,
                    header.last_offset(),
                    header.max_timestamp
                )
            }
            Read::Empty => writeln!(answer, "nothing"),
            Read::Pending(_) => unreachable!("the host waits"),
            Read::Refused(refusal) => writeln!(answer, "refused: {refusal}"),
        };
        self.show(&events, false, answer);
    }

    /// Operations that were carried out, what happened, and where the log stands.
    fn show(&mut self, events: &Events, quiet: bool, answer: &mut String) {
        let trace = &self.host.trace[self.shown..];
        if !quiet {
            for op in trace {
                let _ = writeln!(answer, "  {op}");
            }
        }
        self.shown = self.host.trace.len();
        if events.is_empty() {
            return;
        }
        let mut parts = Vec::new();
        let offsets = [
            ("rolled back to", events.rolled_back),
            ("stored", events.stored),
            ("flushed", events.flushed),
            ("starts at", events.start),
            ("truncated to", events.truncated),
        ];
        parts.extend(offsets.into_iter().filter_map(|(what, at)| Some(format!("{what} {}", at?))));
        parts.extend(events.damage.iter().map(|d| format!("damage: {d}")));
        parts.extend(events.leftovers.iter().map(|f| format!("left over: {f}")));
        parts.extend(events.offline.iter().map(|f| format!("offline: {f}")));
        if events.deleted {
            parts.push("deleted".into());
        }
        let _ = writeln!(answer, "{}", parts.join(", "));
    }

    fn checkpoint(&mut self) {
        for (file, offset) in [
            (RECOVERY_POINT_CHECKPOINT, self.log.flushed_offset()),
            (LOG_START_CHECKPOINT, self.log.start_offset()),
        ] {
            let text = encode_offsets([(NAME, offset)]);
            self.host.disk.replace(&Path::new(DIR, file), &text).expect("a checkpoint");
        }
    }

    fn crash(&mut self, line: &Line, answer: &mut String) {
        let crash = if line.has("power") { Crash::Power } else { Crash::Kill };
        let mut rng = Rng::seeded(line.number("seed").unwrap_or(0));
        self.host.disk.crash(crash, &mut rng);
        self.host.restart();
        let policy = RecoveryPolicy {
            now_ms: self.now.wall_ms,
            index_interval_bytes: 512,
            ..RecoveryPolicy::default()
        };
        let mut recovered = recover(&self.host.disk, DIR, &policy).expect("the disk works");
        let how = if recovered.clean { "clean" } else { "unclean" };
        let _ = writeln!(answer, "{how}, {} bytes scanned", recovered.scanned_bytes);
        for finding in &recovered.findings {
            let _ = writeln!(answer, "{finding}");
        }
        let Some(log) = recovered.logs.pop() else {
            let _ = writeln!(answer, "no log");
            self.log = Log::create(0, &mut self.files, DIR, NAME.into(), Uuid([7; 16]), self.config);
            return;
        };
        let _ = writeln!(answer, "offsets {} to {}", log.start_offset(), log.end_offset());
        for entry in &log.producers {
            let _ = writeln!(
                answer,
                "producer {} up to sequence {:?} below {}",
                entry.producer_id, entry.last_sequence, log.producers_offset
            );
        }
        for header in &log.replay {
            let _ = writeln!(
                answer,
                "producer {} again at {}-{}",
                header.producer_id,
                header.base_offset,
                header.last_offset()
            );
        }
        self.log = log.into_log(0, &mut self.files, Uuid([7; 16]), self.config);
    }

    fn dump(&mut self, answer: &mut String) {
        let mut visit = |found: dump::Found| {
            let _ = match found {
                dump::Found::Segment { base, bytes } => writeln!(answer, "segment {base}: {bytes} bytes"),
                dump::Found::Batch { position, header, .. } => {
                    writeln!(
                        answer,
                        "  {position}: {}-{} epoch {}",
                        header.base_offset,
                        header.last_offset(),
                        header.leader_epoch
                    )
                }
                dump::Found::Damage { position, resumes, flaw, .. } => {
                    writeln!(answer, "  {position}: DAMAGE {flaw}, resumes {resumes:?}")
                }
                dump::Found::Index { kind, why, .. } => writeln!(answer, "  {kind:?}: {why}"),
            };
        };
        let summary = dump::dump(&self.host.disk, DIR, NAME, Depth::Checksums, &mut visit).expect("a dump");
        let _ = writeln!(answer, "{} batches, {} problems", summary.batches, summary.problems);
    }
}

#[test]
fn transcripts() {
    check_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"), || {
        let mut world = World::new();
        move |line| {
            let mut answer = world.play(line);
            let log = &world.log;
            if line.has("where") {
                let state = match log.state() {
                    State::Online => "online".to_owned(),
                    State::Full { .. } => "full".to_owned(),
                    State::Offline(fault) => format!("offline: {fault}"),
                    other => format!("{other:?}").to_lowercase(),
                };
                let _ = writeln!(
                    answer,
                    "{state}, start {} end {} stored {} flushed {}, {} segments, {} bytes",
                    log.start_offset(),
                    log.end_offset(),
                    log.stored_offset(),
                    log.flushed_offset(),
                    log.segment_count(),
                    log.size_bytes()
                );
            }
            answer
        }
    });
}
