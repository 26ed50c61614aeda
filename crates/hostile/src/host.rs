//! Carries out what one log asks for, at once and on a disk in memory.

use bytes::Bytes;
use moldau_base::Now;
use moldau_sim::disk::{Queue, SimDisk, Submitted};
use moldau_storage::{IndexCache, Log, Range, Read};

/// A host for one log.
pub(crate) struct Host {
    queue: Queue,
    pub(crate) cache: IndexCache,
}

impl Host {
    pub(crate) fn new(disk: &SimDisk) -> Host {
        Host { queue: Queue::new(disk.clone()), cache: IndexCache::new(1 << 20) }
    }

    /// Carries out everything that the log asks for.
    pub(crate) fn drain(&mut self, log: &mut Log, now: Now) {
        loop {
            let ops = log.take_ops();
            if ops.is_empty() {
                return;
            }
            for (op, what) in ops {
                self.queue.announce(&what);
                let done = match self.queue.submit(op, what) {
                    Submitted::Done(done) => done,
                    Submitted::Syncing(sync) => self.queue.finish(sync).1,
                    Submitted::Later(ticket) => self.queue.run(ticket).expect("it was submitted").1,
                };
                log.done(now, &mut self.cache, op.seq, done);
            }
        }
    }

    /// The answer to a read, at once or after what it waits for.
    pub(crate) fn wait(&mut self, log: &mut Log, now: Now, read: Read) -> Read {
        self.drain(log, now);
        let Read::Pending(id) = read else { return read };
        let mut events = log.take_events();
        let at = events.reads.iter().position(|(found, _)| *found == id);
        events.reads.swap_remove(at.expect("a pending read is answered once the disk has")).1
    }

    /// The bytes of a range.
    pub(crate) fn bytes(&mut self, range: &Range) -> Bytes {
        let file = self.queue.handle(range.file).expect("the file of a range is open");
        file.read(range.position, range.len as usize)
    }
}
