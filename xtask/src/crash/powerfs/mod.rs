//! A file system that forgets what was not synced: [`disk`] behind FUSE, mounted without libfuse, which root may do.
//!
//! The kernel hands on every write before it returns to the writer (there is no write-back cache here), so what the
//! disk has not heard of no process has been told. It must never outlive its handle.

mod disk;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use self::disk::{Disk, Facts, Refused};
use super::draw::Draw;

/// How long the kernel may remember names and sizes: nobody changes them but through it.
const TTL: Duration = Duration::from_secs(60);
/// Blocks of 4 KiB that the disk says it has.
const BLOCKS: u64 = 1 << 24;

/// A mounted disk.
pub struct PowerFs {
    point: PathBuf,
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

impl PowerFs {
    /// Mounts an empty disk at `point`, which is made.
    pub fn mount(point: &Path) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        let mut power = Self { point: point.to_owned(), disk: Arc::default(), session: None };
        power.plug()?;
        Ok(power)
    }

    fn plug(&mut self) -> Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("moldau-power".into())];
        let session = fuser::spawn_mount(Mounted(self.disk.clone()), &self.point, &config);
        self.session = Some(session.context("cannot mount a FUSE file system")?);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no change any more after so many.
    pub fn freeze_after(&self, changes: u64) {
        self.disk().freeze_after(Some(changes));
    }

    /// Whether it has refused a change.
    pub fn is_frozen(&self) -> bool {
        self.disk().is_frozen()
    }

    /// Every file that a power loss cannot take, as far as it cannot: its path from the mount point on, its content.
    pub fn certain(&self, mut each: impl FnMut(&Path, &[u8])) {
        for (path, content) in self.disk().certain() {
            each(&path, content);
        }
    }

    /// The power goes and comes back. No process may have a file open.
    pub fn power_loss(&mut self, draw: &mut Draw) -> Result<()> {
        if let Some(session) = self.session.take() {
            session.umount_and_join().context("cannot unmount")?;
        }
        self.disk().power_loss(draw);
        self.plug()
    }
}

/// Whether the machine can have such a file system.
pub fn needs() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may mount");
    }
    match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(why) => bail!("/dev/fuse: {why}"),
    }
}

struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn errno(why: Refused) -> Errno {
    match why {
        Refused::Missing => Errno::ENOENT,
        Refused::Exists => Errno::EEXIST,
        Refused::IsDirectory => Errno::EISDIR,
        Refused::NotDirectory => Errno::ENOTDIR,
        Refused::NotEmpty => Errno::ENOTEMPTY,
        Refused::Across => Errno::EXDEV,
        Refused::Frozen => Errno::EIO,
    }
}

fn text(name: &OsStr) -> std::result::Result<&str, Refused> {
    name.to_str().ok_or(Refused::Missing)
}

fn attributes(facts: Facts) -> FileAttr {
    let (kind, perm) = match facts.is_directory {
        true => (FileType::Directory, 0o755),
        false => (FileType::RegularFile, 0o644),
    };
    FileAttr {
        ino: INodeNo(facts.id),
        size: facts.len,
        blocks: facts.len.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Sends the end of an operation that answers nothing but whether it was done.
fn done(result: std::result::Result<(), Refused>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(why) => reply.error(errno(why)),
    }
}

fn entry(result: std::result::Result<Facts, Refused>, reply: ReplyEntry) {
    match result {
        Ok(facts) => reply.entry(&TTL, &attributes(facts), Generation(0)),
        Err(why) => reply.error(errno(why)),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(text(name).and_then(|name| self.disk().find(parent.0, name)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk().facts(ino.0) {
            Ok(facts) => reply.attr(&TTL, &attributes(facts)),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let resized = size.map_or(Ok(()), |len| disk.resize(ino.0, len));
        match resized.and_then(|()| disk.facts(ino.0)) {
            Ok(facts) => reply.attr(&TTL, &attributes(facts)),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(text(name).and_then(|name| self.disk().make(parent.0, name, true)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(text(name).and_then(|name| self.disk().remove(parent.0, name, false)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(text(name).and_then(|name| self.disk().remove(parent.0, name, true)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let names = text(name).and_then(|name| Ok((name, text(newname)?)));
        done(names.and_then(|(from, to)| self.disk().rename(parent.0, from, (newparent.0, to))), reply);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match text(name).and_then(|name| self.disk().make(parent.0, name, false)) {
            Ok(facts) => {
                reply.created(&TTL, &attributes(facts), Generation(0), FileHandle(0), FopenFlags::empty())
            }
            Err(why) => reply.error(errno(why)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(ino.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(ino.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync(ino.0), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.disk().list(ino.0) {
            Ok(entries) => entries,
            Err(why) => return reply.error(errno(why)),
        };
        for (at, (name, facts)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(INodeNo(facts.id), at, attributes(facts).kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS / 2, BLOCKS / 2, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
