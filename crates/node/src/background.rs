//! The threads that wait for disks: per log directory one that syncs (many waiting syncs of one file become one, and those of
//! several files follow each other without a gap: group commit), and one for cold reads, replacements, syncs of directories and removals.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use moldau_base::disk::{Done, OpId};
use moldau_broker::{ConnId, Input};

use crate::files::failed;
use crate::fs;
use crate::mailbox::{Item, Mailbox};

/// Something that waits for a disk.
pub enum Job {
    /// Make a file durable; with `directory`, its directory entry too.
    Sync {
        /// Names the operation.
        id: OpId,
        /// The file.
        file: Arc<File>,
        /// The path of a file that was made since the last sync.
        directory: Option<PathBuf>,
    },
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
    /// Make the name of a file or directory durable.
    SyncDirectory {
        /// Names the operation.
        id: OpId,
        /// The file or directory.
        path: PathBuf,
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

/// The threads of all log directories.
#[derive(Clone)]
pub struct Threads {
    syncs: Vec<SyncSender<Order>>,
    others: Vec<SyncSender<Order>>,
}

/// The threads as one shard sees them.
#[derive(Clone)]
pub struct Background {
    threads: Threads,
    mailbox: Arc<Mailbox>,
}

impl Threads {
    /// Starts the threads of `dirs` log directories. They end when the last [`Background`] is gone. Jobs hold descriptors: at most
    /// `line` of them wait for a thread, and a shard that has one more waits until there is room.
    pub fn start(dirs: usize, line: usize) -> io::Result<Threads> {
        let mut threads = Threads { syncs: Vec::new(), others: Vec::new() };
        for dir in 0..dirs {
            let (send, orders) = sync_channel(line);
            thread::Builder::new().name(format!("sync-{dir}")).spawn(move || sync_loop(&orders, line))?;
            threads.syncs.push(send);
            let (send, orders) = sync_channel(line);
            thread::Builder::new().name(format!("disk-{dir}")).spawn(move || other_loop(&orders))?;
            threads.others.push(send);
        }
        Ok(threads)
    }

    /// A shard's view: what finishes goes to its mailbox.
    pub fn of(&self, mailbox: Arc<Mailbox>) -> Background {
        Background { threads: self.clone(), mailbox }
    }
}

impl Background {
    /// Gives a job to the thread of its log directory.
    pub fn send(&self, dir: u16, job: Job) {
        let threads = match job {
            Job::Sync { .. } => &self.threads.syncs,
            _ => &self.threads.others,
        };
        let order = Order { job, back: self.mailbox.clone() };
        let thread = threads.get(usize::from(dir)).or(threads.first());
        if let Some(Err(lost)) = thread.map(|thread| thread.send(order)) {
            let error = io::Error::other("the disk thread has ended");
            report(&self.mailbox, waits_for(&lost.0.job), failed(&error));
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
        Job::Sync { id, .. }
        | Job::Read { id, .. }
        | Job::Replace { id, .. }
        | Job::SyncDirectory { id, .. }
        | Job::Remove { id, .. } => Waits::Shard(*id),
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

/// The syncs that wait for one file.
struct Waiting {
    file: Arc<File>,
    directories: Vec<PathBuf>,
    ids: Vec<(OpId, Arc<Mailbox>)>,
}

fn sync_loop(orders: &Receiver<Order>, line: usize) {
    while let Ok(first) = orders.recv() {
        let mut files: BTreeMap<usize, Waiting> = BTreeMap::new();
        for order in std::iter::once(first).chain(orders.try_iter()).take(line.max(1)) {
            if let Job::Sync { id, file, directory } = order.job {
                let waiting = files.entry(Arc::as_ptr(&file) as usize).or_insert_with(|| Waiting {
                    file,
                    directories: Vec::new(),
                    ids: Vec::new(),
                });
                waiting.directories.extend(directory);
                waiting.ids.push((id, order.back));
            }
        }
        for waiting in files.into_values() {
            let synced = waiting.file.sync_data();
            let synced = waiting
                .directories
                .iter()
                .fold(synced, |before, path| before.and_then(|()| fs::sync_directory_of(path)));
            for (id, back) in waiting.ids {
                report(&back, Waits::Shard(id), done(&synced));
            }
        }
    }
}

fn done(result: &io::Result<()>) -> Done {
    match result {
        Ok(()) => Done::Ok,
        Err(error) => failed(error),
    }
}

fn other_loop(orders: &Receiver<Order>) {
    while let Ok(Order { job, back }) = orders.recv() {
        let who = waits_for(&job);
        let end = match job {
            Job::Sync { file, .. } => done(&file.sync_data()),
            Job::Read { file, position, len, .. } => read(&file, position, len),
            Job::Replace { replacement, data, .. } => done(&replacement.finish(&data)),
            Job::SyncDirectory { path, .. } => done(&fs::sync_directory_of(&path)),
            Job::Remove { path, .. } => done(&fs::remove_all(&path)),
            Job::Warm { file, position, len, .. } => done(&fs::warm(&file, position, len)),
        };
        report(&back, who, end);
    }
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
        let path = std::env::temp_dir().join(format!("moldau-background-{}", std::process::id()));
        let background = Threads::start(1, line).unwrap().of(Arc::default());
        let mut sent = Vec::new();
        for seq in 0..200 {
            let file = Arc::new(File::create(&path).unwrap());
            sent.push(Arc::downgrade(&file));
            background.send(0, Job::Sync { id: OpId { owner: 0, seq }, file, directory: None });
            let held = sent.iter().filter(|file| file.strong_count() > 0).count();
            // In the line, in the hands of the thread, and the one that a shard waits with.
            assert!(held <= 2 * line + 1, "{held} files are open");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
