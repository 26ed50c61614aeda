//! The host: file ids, operations in order, completions now or later.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moldau_base::disk::{Disk, Done, Fault, FileId, Op};
use moldau_base::{Now, Rng};
use moldau_storage::{Events, IndexCache, Log, Range, Read, ReadId, ReadRequest};

use super::ModelDisk;

/// When operations are carried out and told.
#[derive(Debug)]
pub enum Pace {
    /// At once.
    AtOnce,
    /// Only when asked to.
    Held,
    /// At once, but files that come in the place of others only when asked to.
    FilesHeld,
    /// As the seed decides.
    Seeded(Rng),
    /// As a host with threads does it: writes and the like at once, syncs in one line, replacements and removals in another, each line as
    /// far as the seed decides.
    Lines(Rng),
}

/// A file that is bound.
struct Open {
    name: String,
    create: bool,
    inode: Option<u64>,
}

/// A host for one log.
pub struct Host {
    pub disk: ModelDisk,
    pub cache: IndexCache,
    pub pace: Pace,
    /// Operations that were carried out, as text.
    pub trace: Vec<String>,
    /// How often the disk was read.
    pub reads: u64,
    files: BTreeMap<FileId, Open>,
    queue: VecDeque<(u32, Op)>,
    /// The lines of [`Pace::Lines`].
    lines: [VecDeque<(u32, Op)>; 2],
}

impl Host {
    pub fn new(pace: Pace) -> Host {
        Host {
            disk: ModelDisk::default(),
            cache: IndexCache::new(1 << 20),
            pace,
            trace: Vec::new(),
            reads: 0,
            files: BTreeMap::new(),
            queue: VecDeque::new(),
            lines: Default::default(),
        }
    }

    /// The process is gone, and what it had not done with it.
    pub fn restart(&mut self) {
        self.files.clear();
        self.queue.clear();
        self.lines = Default::default();
        self.cache = IndexCache::new(1 << 20);
    }

    /// Takes the log's operations and carries out as many as the pace has it.
    pub fn run(&mut self, log: &mut Log, now: Now) {
        if let Pace::Lines(rng) = &mut self.pace {
            let mut rng = rng.fork();
            return self.run_lines(log, now, &mut rng);
        }
        if matches!(self.pace, Pace::FilesHeld) {
            return self.run_all_but_files(log, now);
        }
        loop {
            self.queue.extend(log.take_ops().into_iter().map(|(id, op)| (id.seq, op)));
            let go = match &mut self.pace {
                Pace::AtOnce => true,
                Pace::Held | Pace::FilesHeld => false,
                Pace::Seeded(rng) | Pace::Lines(rng) => rng.chance(2, 3),
            };
            if !go || !self.one(log, now) {
                return;
            }
        }
    }

    fn run_all_but_files(&mut self, log: &mut Log, now: Now) {
        while log.has_ops() {
            for (id, op) in log.take_ops() {
                if let Op::Replace { .. } = op {
                    self.queue.push_back((id.seq, op));
                    continue;
                }
                let done = self.carry_out(op);
                log.done(now, &mut self.cache, id.seq, done);
            }
        }
    }

    /// What is held is carried out in the reverse order.
    pub fn reverse(&mut self) {
        self.queue.make_contiguous().reverse();
    }

    /// Does at once what does not wait, and as much of the lines as the seed decides.
    fn run_lines(&mut self, log: &mut Log, now: Now, rng: &mut Rng) {
        loop {
            for (id, op) in log.take_ops() {
                let line = match op {
                    // A sync holds its file.
                    Op::Sync { .. } | Op::Close { .. } => 0,
                    Op::Replace { .. } | Op::Remove { .. } => 1,
                    _ => {
                        let done = self.carry_out(op);
                        log.done(now, &mut self.cache, id.seq, done);
                        continue;
                    }
                };
                self.lines[line].push_back((id.seq, op));
            }
            if log.has_ops() {
                continue;
            }
            let line = rng.below(2) as usize;
            let next = if rng.chance(4, 5) { self.lines[line].pop_front() } else { None };
            let Some((seq, op)) = next else { return };
            let done = self.carry_out(op);
            log.done(now, &mut self.cache, seq, done);
        }
    }

    /// Carries out everything.
    pub fn drain(&mut self, log: &mut Log, now: Now) {
        if let Pace::Lines(rng) = &mut self.pace {
            let mut rng = rng.fork();
            while log.has_ops() || self.lines.iter().any(|line| !line.is_empty()) {
                self.run_lines(log, now, &mut rng);
            }
            return;
        }
        loop {
            self.queue.extend(log.take_ops().into_iter().map(|(id, op)| (id.seq, op)));
            if !self.one(log, now) {
                return;
            }
        }
    }

    /// Carries out the oldest operation.
    pub fn one(&mut self, log: &mut Log, now: Now) -> bool {
        let Some((seq, op)) = self.queue.pop_front() else { return false };
        let done = self.carry_out(op);
        log.done(now, &mut self.cache, seq, done);
        true
    }

    fn name(&self, file: FileId) -> &str {
        self.files.get(&file).map_or("?", |open| &open.name)
    }

    /// The file, if it is there.
    fn find(&mut self, file: FileId) -> Result<u64, Fault> {
        let open = self.files.get_mut(&file).ok_or(Fault::Missing)?;
        open.inode = open.inode.or_else(|| self.disk.find(&open.name));
        open.inode.ok_or(Fault::Missing)
    }

    /// The file, made if it may be.
    fn make(&mut self, file: FileId) -> Result<u64, Fault> {
        let found = self.find(file);
        let Some(open) = self.files.get_mut(&file).filter(|open| open.create && found.is_err()) else {
            return found;
        };
        let made = self.disk.make(&open.name).map_err(|e| Fault::from(&e))?;
        open.inode = Some(made);
        Ok(made)
    }

    fn note(&mut self, text: String, done: &Done) {
        let end = match done {
            Done::Failed(fault) => format!(": {fault}"),
            _ => String::new(),
        };
        self.trace.push(format!("{text}{end}"));
    }

    fn carry_out(&mut self, op: Op) -> Done {
        let result = |r: std::io::Result<()>| r.map_err(|e| Fault::from(&e));
        let told = |r: Result<(), Fault>| r.map_or_else(Done::Failed, |()| Done::Ok);
        match op {
            Op::Open { file, path, create } => {
                let inode = self.disk.find(&path.name);
                self.files.insert(file, Open { name: path.name, create, inode });
                Done::Ok
            }
            Op::Write { file, position, parts } => {
                let made = self.make(file);
                let done = told(made.and_then(|i| result(self.disk.write_inode(i, position, &parts))));
                let len: usize = parts.iter().map(Bytes::len).sum();
                self.note(format!("write {} {position}+{len}", self.name(file)), &done);
                done
            }
            Op::Sync { file } => {
                let done = told(self.find(file).and_then(|i| result(self.disk.sync_inode(i))));
                self.note(format!("sync {}", self.name(file)), &done);
                done
            }
            Op::Read { file, position, len } => {
                self.reads += 1;
                let Ok(inode) = self.find(file) else { return Done::Failed(Fault::Missing) };
                let bytes = self.disk.read_inode(inode, position, len as usize);
                self.note(format!("read {} {position}+{}", self.name(file), bytes.len()), &Done::Ok);
                Done::Read(bytes)
            }
            Op::Truncate { file, len } => {
                let done = told(self.find(file).map(|inode| self.disk.truncate_inode(inode, len)));
                self.note(format!("truncate {} to {len}", self.name(file)), &done);
                done
            }
            Op::Replace { path, data } => {
                let done = told(result(self.disk.replace(&path, &data)));
                self.note(format!("replace {} by {} bytes", path.name, data.len()), &done);
                done
            }
            Op::Rename { from, to } => {
                let done = told(result(self.disk.rename(&from, &to)));
                self.note(format!("rename {} to {}", from.name, to.name), &done);
                done
            }
            Op::Close { file } => {
                self.files.remove(&file);
                Done::Ok
            }
            Op::Remove { path } => {
                let done = told(result(self.disk.remove(&path)));
                self.note(format!("remove {}", path.name), &done);
                done
            }
        }
    }

    /// Reads to the end of what is pending.
    pub fn read(&mut self, log: &mut Log, now: Now, request: ReadRequest) -> (Read, Events) {
        let read = log.read(&mut self.cache, request);
        self.wait(log, now, read)
    }

    /// Carries out operations until a pending read has its answer.
    pub fn wait(&mut self, log: &mut Log, now: Now, read: Read) -> (Read, Events) {
        let Read::Pending(id) = read else {
            self.drain(log, now);
            return (read, log.take_events());
        };
        self.drain(log, now);
        let mut events = log.take_events();
        let at = events.reads.iter().position(|(found, _): &(ReadId, Read)| *found == id);
        let (_, read) = events.reads.remove(at.expect("every pending read is answered"));
        (read, events)
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: &Range) -> Bytes {
        let open = &self.files[&range.file];
        let inode = open.inode.or_else(|| self.disk.find(&open.name)).expect("a file that may be sent from");
        self.disk.read_inode(inode, range.position, range.len as usize)
    }
}
