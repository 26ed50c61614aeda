//! The threads that wait for disks, four for each log directory: one that makes files and names durable, one that replaces, one that
//! reads what is not in memory, so that no reader waits for a sync, and one that removes, so that nothing waits for that.
//!
//! What waits is done together ([`crate::together`]: group commit). Jobs that wait hold few descriptors, however many they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel};
use std::thread;

use bytes::Bytes;
use moldau_base::disk::{Done, OpId};
use moldau_broker::{ConnId, Input};

use crate::files::failed;
use crate::fs;
use crate::mailbox::{Item, Mailbox};
use crate::together::{Replaced, Whole, sync_together};

/// Most syncs that are done together, so that the first of them does not wait for ever.
const MOST_TOGETHER: usize = 16 * 1024;

/// Something that waits for a disk.
pub enum Job {
    /// Read what is not in memory.
    Read {
        /// Names the operation.
        id: OpId,
        /// The file.
        file: Arc<File>,
        /// Byte position.
        position: u64,
        /// At most this many bytes.
        len: u32,
    },
    /// Replace a file as a whole.
    Replace {
        /// Names the operation.
        id: OpId,
        /// The file.
        replacement: fs::Replacement,
        /// Its content.
        data: Bytes,
    },
    /// Bring a part of a file into memory, so that sending it waits for no disk.
    Warm {
        /// Who waits for it.
        conn: ConnId,
        /// The file.
        file: Arc<File>,
        /// Byte position.
        position: u64,
        /// This many bytes; reading on behind them is begun.
        len: u64,
    },
    /// Remove.
    Remove {
        /// Names the operation.
        id: OpId,
        /// What.
        path: PathBuf,
    },
}

struct Order {
    job: Job,
    back: Arc<Mailbox>,
}

/// Something that is to be durable.
pub(crate) struct Sync {
    /// What.
    pub(crate) what: Durable,
    /// Who is told.
    pub(crate) asked: Asked,
}

/// What is to be durable.
pub(crate) enum Durable {
    /// What was written to a file; with its path, if it was made since its last sync, also its name.
    File(Arc<File>, Option<PathBuf>),
    /// The same of a file whose descriptor was not kept: only a sync of the whole file system will do.
    LetGo,
    /// The name of a file or directory.
    Name(PathBuf),
}

impl Sync {
    /// Whether it holds a descriptor.
    fn holds(&self) -> bool {
        matches!(self.what, Durable::File(..))
    }
}

/// The shard that waits for an operation.
pub(crate) struct Asked {
    id: OpId,
    back: Arc<Mailbox>,
}

impl Asked {
    /// The operation, and where its end is told.
    pub(crate) fn new(id: OpId, back: Arc<Mailbox>) -> Asked {
        Asked { id, back }
    }

    /// Tells it how the operation ended.
    pub(crate) fn answer(&self, done: Done) {
        report(&self.back, Waits::Shard(self.id), done);
    }
}

/// The lines in front of the threads of one log directory.
#[derive(Clone)]
struct Lines {
    syncs: Syncs,
    /// Each replacement holds a descriptor: a shard that has one more than fit waits. So it is with reads.
    replacements: SyncSender<Order>,
    reads: SyncSender<Order>,
    /// Removals hold none, and a topic may have thousands: no shard waits for them.
    removals: Sender<Order>,
}

/// The line in front of the thread that syncs.
#[derive(Clone)]
enum Syncs {
    /// Many are done by one sync of the whole file system, which needs no descriptors: at most so many hold one, and no shard
    /// waits to get in.
    Any { line: Sender<Sync>, holding: Arc<AtomicUsize>, most: usize },
    /// Each needs its descriptor: a shard that has one more than fit waits.
    Few(SyncSender<Sync>),
}

impl Syncs {
    fn send(&self, mut sync: Sync) -> Result<(), SendError<Sync>> {
        match self {
            Syncs::Few(line) => line.send(sync),
            Syncs::Any { line, holding, most } => {
                if sync.holds() && holding.fetch_add(1, Ordering::Relaxed) >= *most {
                    holding.fetch_sub(1, Ordering::Relaxed);
                    sync.what = Durable::LetGo;
                }
                line.send(sync)
            }
        }
    }
}

/// The threads of all log directories.
#[derive(Clone)]
pub struct Threads(Vec<Lines>);

/// The threads as one shard sees them.
#[derive(Clone)]
pub struct Background {
    threads: Threads,
    mailbox: Arc<Mailbox>,
}

impl Threads {
    /// Starts the threads of these log directories, before anything is written there. They end when the last [`Background`] is gone.
    /// In front of each thread, at most `line` jobs hold descriptors.
    pub fn start(dirs: &[PathBuf], line: usize) -> io::Result<Threads> {
        let lines = dirs.iter().enumerate().map(|(at, dir)| Lines::start(at, dir, line));
        Ok(Threads(lines.collect::<io::Result<_>>()?))
    }

    /// A shard's view: what finishes goes to its mailbox.
    pub fn of(&self, mailbox: Arc<Mailbox>) -> Background {
        Background { threads: self.clone(), mailbox }
    }
}

impl Lines {
    fn start(at: usize, dir: &Path, line: usize) -> io::Result<Lines> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(format!("{name}-{at}")).spawn(run).map(drop)
        };
        let holding = Arc::new(AtomicUsize::new(0));
        let whole = Whole::of(dir)?;
        let (syncs, orders) = if whole.may_be_synced() {
            let (send, orders) = channel();
            (Syncs::Any { line: send, holding: holding.clone(), most: line }, orders)
        } else {
            let (send, orders) = sync_channel(line);
            (Syncs::Few(send), orders)
        };
        spawn("sync", Box::new(move || sync_loop(&orders, whole, &holding)))?;
        let (replacements, orders) = sync_channel(line);
        let whole = Whole::of(dir)?;
        spawn("replace", Box::new(move || replace_loop(&orders, whole, line)))?;
        let (reads, orders) = sync_channel(line);
        spawn("read", Box::new(move || orders.iter().for_each(carry_out)))?;
        let (removals, orders) = channel();
        spawn("remove", Box::new(move || orders.iter().for_each(carry_out)))?;
        Ok(Lines { syncs, replacements, reads, removals })
    }
}

impl Background {
    /// Gives a job to a thread of its log directory.
    pub fn send(&self, dir: u16, job: Job) {
        let who = waits_for(&job);
        let order = Order { job, back: self.mailbox.clone() };
        let sent = self.lines(dir).is_some_and(|lines| match order.job {
            Job::Read { .. } | Job::Warm { .. } => lines.reads.send(order).is_ok(),
            Job::Replace { .. } => lines.replacements.send(order).is_ok(),
            Job::Remove { .. } => lines.removals.send(order).is_ok(),
        });
        self.check(who, sent);
    }

    /// Has a file made durable; `fresh` is the path of one that was made since its last sync.
    pub fn sync(&self, dir: u16, id: OpId, file: Arc<File>, fresh: Option<PathBuf>) {
        self.make_durable(dir, id, Durable::File(file, fresh));
    }

    /// Has the name of a file or directory made durable.
    pub fn sync_name(&self, dir: u16, id: OpId, path: PathBuf) {
        self.make_durable(dir, id, Durable::Name(path));
    }

    fn make_durable(&self, dir: u16, id: OpId, what: Durable) {
        let sync = Sync { what, asked: Asked::new(id, self.mailbox.clone()) };
        let sent = self.lines(dir).is_some_and(|lines| lines.syncs.send(sync).is_ok());
        self.check(Waits::Shard(id), sent);
    }

    fn lines(&self, dir: u16) -> Option<&Lines> {
        self.threads.0.get(usize::from(dir)).or(self.threads.0.first())
    }

    fn check(&self, who: Waits, sent: bool) {
        if !sent {
            report(&self.mailbox, who, failed(&io::Error::other("the disk thread has ended")));
        }
    }
}

/// Who is told of the end of a job.
#[derive(Clone, Copy)]
enum Waits {
    Shard(OpId),
    Conn(ConnId),
}

fn waits_for(job: &Job) -> Waits {
    match job {
        Job::Read { id, .. } | Job::Replace { id, .. } | Job::Remove { id, .. } => Waits::Shard(*id),
        Job::Warm { conn, .. } => Waits::Conn(*conn),
    }
}

fn report(mailbox: &Mailbox, who: Waits, done: Done) {
    mailbox.send(match who {
        Waits::Shard(op) => Item::Input(Input::DiskDone { op, done }),
        // What cannot be read is met again when it is sent.
        Waits::Conn(conn) => Item::Warmed(conn),
    });
}

fn sync_loop(orders: &Receiver<Sync>, mut whole: Whole, holding: &AtomicUsize) {
    while let Ok(first) = orders.recv() {
        let waiting = std::iter::once(first).chain(orders.try_iter()).take(MOST_TOGETHER);
        let waiting: Vec<Sync> = waiting.collect();
        let held = waiting.iter().filter(|sync| sync.holds()).count();
        sync_together(waiting, &mut whole);
        // Where each needs its descriptor nobody counts them.
        let _ = holding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(held)));
    }
}

/// Replacements, in order, but for what makes them durable.
fn replace_loop(orders: &Receiver<Order>, mut whole: Whole, line: usize) {
    while let Ok(first) = orders.recv() {
        let mut replaced = Replaced::default();
        for Order { job, back } in std::iter::once(first).chain(orders.try_iter()).take(line.max(1)) {
            match job {
                Job::Replace { id, replacement, data } => {
                    replaced.add(Asked::new(id, back), replacement, data, &mut whole);
                }
                job => carry_out(Order { job, back }),
            }
        }
        replaced.finish(&mut whole);
    }
}

fn done(result: &io::Result<()>) -> Done {
    match result {
        Ok(()) => Done::Ok,
        Err(error) => failed(error),
    }
}

fn carry_out(Order { job, back }: Order) {
    let who = waits_for(&job);
    let end = match job {
        Job::Read { file, position, len, .. } => read(&file, position, len),
        Job::Replace { replacement, data, .. } => done(&replacement.finish(&data)),
        Job::Remove { path, .. } => done(&fs::remove_all(&path)),
        Job::Warm { file, position, len, .. } => done(&fs::warm(&file, position, len)),
    };
    report(&back, who, end);
}

fn read(file: &File, position: u64, len: u32) -> Done {
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return failed(&error),
        }
    }
    bytes.truncate(filled);
    Done::Read(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_wait_hold_few_descriptors() {
        let line = 4;
        let dir = std::env::temp_dir().join(format!("moldau-background-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let background = Threads::start(std::slice::from_ref(&dir), line).unwrap().of(Arc::default());
        let mut sent = Vec::new();
        for seq in 0..200 {
            let file = Arc::new(File::create(dir.join("file")).unwrap());
            sent.push(Arc::downgrade(&file));
            background.sync(0, OpId { owner: 0, seq }, file, None);
            let held = sent.iter().filter(|file| file.strong_count() > 0).count();
            // In the line, in the hands of the thread, and the one that a shard waits with.
            assert!(held <= 2 * line + 1, "{held} files are open");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
