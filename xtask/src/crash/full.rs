//! A disk of 64 MiB that fills up under load and is emptied again by what an operator has: DeleteRecords, the deletion of a
//! topic, retention.
//!
//! While it is full, writes are refused and reads go on; a kill and a start may come between. Once there is room again,
//! the same writers must get on without a restart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::broker::{Broker, Started};
use super::draw::Draw;
use super::load::{PATIENCE, Waiting, list};
use super::session::{Plan, Session, TOPIC, rounds as run_rounds};
use super::{Context, Tally};
use crate::toolbox;

/// Bytes of the disk.
const DISK: u64 = 64 << 20;
/// What the load leaves of it, so that it is full soon.
const ROOM: u64 = 12 << 20;
/// With less than this a disk is full.
const FULL: u64 = 256 << 10;
const BALLAST: &str = "ballast";
/// A topic that is there to be deleted, and its bytes.
const BULK: &str = "bulk";
const BULK_BYTES: usize = 3 << 20;

/// Whether the machine can mount a file as a disk.
pub fn needs() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may mount");
    }
    toolbox::need(&["mkfs.ext4", "mount", "umount", "fallocate"])?;
    ensure!(Path::new("/dev/loop-control").exists(), "no loop devices");
    Ok(())
}

/// A file that is mounted as a disk; unmounted when dropped.
pub struct Loop(pub PathBuf);

impl Loop {
    /// Makes a disk of `size` bytes below `folder`, and mounts it there.
    pub fn mount(folder: &Path, size: u64) -> Result<Self> {
        let (image, point) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::create_dir_all(&point)?;
        std::fs::File::create(&image)?.set_len(size)?;
        toolbox::install(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        toolbox::install(Command::new("mount").args(["-o", "loop"]).args([&image, &point]))?;
        Ok(Self(point))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = toolbox::install(Command::new("umount").arg("--lazy").arg(&self.0)) {
            eprintln!("cannot unmount {}: {why:#}", self.0.display());
        }
    }
}

/// Runs the case.
pub fn run(context: &Context, rounds: u64) -> Result<Tally> {
    let folder = context.folder("full-disk")?;
    let disk = Loop::mount(&folder, DISK)?;
    let mut broker =
        Broker::new(&context.bin, &disk.0.join("data"))?.with("log.retention.check.interval.ms=1000");
    broker.log_to(&folder.join("broker.log"));
    let configs = ["file.delete.delay.ms=500"];
    let plan = Plan { configs: &configs, rate: 3000, families: 2, ..Plan::default() };
    let mut session = Session::begin(context, folder, broker, &plan)?;
    let mut bulk = fill_bulk(context, &session)?;
    fill(&disk.0, ROOM)?;
    session.traffic.progress()?;
    let mut left = rounds;
    run_rounds("full-disk", rounds, session, |session, draw| {
        let way = match Way::draw(draw) {
            Way::Delete if !bulk => Way::DeleteRecords,
            way => way,
        };
        if !session.traffic.falls_silent(Duration::from_secs(3), Duration::from_secs(90))? {
            bail!("acknowledgements go on although the disk must be full");
        }
        ensure!(session.broker.is_running(), "the broker has ended:\n{}", session.broker.said());
        session.traffic.verify()?;
        if draw.one_in(3) {
            session.broker.kill();
            start_without_room(session)?;
            session.traffic.verify()?;
        }
        let before = session.traffic.acknowledged()?;
        make_room(context, session, way)?;
        place_is_given_back(session)?;
        bulk = match way {
            Way::Delete => false,
            _ => bulk || fill_bulk(context, session)?,
        };
        writers_go_on(context, session, &before)?;
        left -= 1;
        if left == 0 { let_writers_end(context, session) } else { Ok(()) }
    })
}

/// The room that was made lets one writer go on at least, which may take it all; for the others more is made, until all have
/// gone on.
fn writers_go_on(context: &Context, session: &mut Session<'_>, before: &[u64]) -> Result<()> {
    let mut patience = Waiting::at_most(PATIENCE);
    let stuck = |session: &mut Session<'_>| -> Result<usize> {
        Ok(session.traffic.acknowledged()?.iter().zip(before).filter(|(now, before)| now <= before).count())
    };
    while stuck(session)? == before.len() {
        ensure!(patience.step(Duration::from_millis(50)), "room was made, and no writer goes on");
    }
    let mut read = session.traffic.ledger.ends();
    while stuck(session)? > 0 && patience.step(Duration::from_secs(2)) {
        delete_older(context, session, &mut read)?;
    }
    session.traffic.progress_since(before)
}

/// What the writers hold in memory by now may be more than the whole disk has room for: what has been read is deleted until
/// they have sent it all.
fn let_writers_end(context: &Context, session: &mut Session<'_>) -> Result<()> {
    session.traffic.dismiss();
    let (mut patience, mut last) = (Waiting::at_most(PATIENCE), 0);
    let mut read = session.traffic.ledger.ends();
    while !session.traffic.have_left() {
        delete_older(context, session, &mut read)?;
        let acknowledged = session.traffic.acknowledged()?.iter().sum();
        if acknowledged > last {
            (last, patience) = (acknowledged, Waiting::at_most(PATIENCE));
        }
        ensure!(patience.step(Duration::from_millis(200)), "there is room, and the writers do not end");
    }
    Ok(())
}

/// A file that was removed keeps its place for as long as the broker has it open, which must not be long.
fn place_is_given_back(session: &Session<'_>) -> Result<()> {
    let id = session.broker.id().context("the broker does not run")?.as_raw_nonzero();
    let removed = || -> Result<BTreeSet<PathBuf>> {
        let open = std::fs::read_dir(format!("/proc/{id}/fd"))?.flatten();
        let open = open.filter_map(|file| std::fs::read_link(file.path()).ok());
        Ok(open.filter(|path| path.to_string_lossy().ends_with(" (deleted)")).collect())
    };
    let (mut held, mut patience) = (removed()?, Waiting::at_most(Duration::from_secs(20)));
    while !held.is_empty() {
        ensure!(patience.step(Duration::from_millis(200)), "removed, and kept open for 20 s: {held:?}");
        let now = removed()?;
        held.retain(|path| now.contains(path));
    }
    Ok(())
}

/// Takes all the place of a disk but `left` bytes; the file that holds it.
pub fn fill(disk: &Path, left: u64) -> Result<PathBuf> {
    let file = disk.join(BALLAST);
    let size = space(disk)?.saturating_sub(left).to_string();
    match toolbox::install(Command::new("fallocate").args(["-l", &size]).arg(&file)) {
        // Somebody else may take place meanwhile, and then the disk is full as well.
        Err(why) if left > 0 || space(disk)? > FULL => Err(why),
        _ => Ok(file),
    }
}

/// Bytes that are free.
fn space(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail * found.f_frsize)
}

/// How room is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    DeleteRecords,
    Retention,
    Delete,
}

impl Way {
    fn draw(draw: &mut Draw) -> Self {
        match draw.below(3) {
            0 => Self::DeleteRecords,
            1 => Self::Retention,
            _ => Self::Delete,
        }
    }
}

/// A broker may refuse to start without room, by that name; the operator then takes something else off the disk.
fn start_without_room(session: &mut Session<'_>) -> Result<()> {
    match session.broker.try_start()? {
        Started::Ready => Ok(()),
        Started::Refused(said) if said.contains("No space left") => {
            let ballast = session.traffic.folder.join("disk").join(BALLAST);
            let file = std::fs::File::options().write(true).open(ballast)?;
            file.set_len(file.metadata()?.len().saturating_sub(1 << 20))?;
            session.broker.start()
        }
        Started::Refused(said) => bail!("the broker refuses to start:\n{said}"),
    }
}

/// Creates the topic that will be deleted, with as much in it as fits; whether its deletion will make room.
fn fill_bulk(context: &Context, session: &Session<'_>) -> Result<bool> {
    let (programs, address, file) =
        (&context.programs, &session.broker.address, session.traffic.folder.join("bulk"));
    match programs.create(address, BULK, 1, &["segment.bytes=1048576"]) {
        Err(why) if !why.to_string().contains("TOPIC_ALREADY_EXISTS") => return Err(why),
        _ => {}
    }
    std::fs::write(&file, format!("{}\n", "b".repeat(999)).repeat(BULK_BYTES / 1000))?;
    let mut produce = Command::new(&context.bin);
    produce.args(["produce", BULK, "--bootstrap-server", address, "--file"]).arg(&file);
    let said = produce.output()?;
    if !said.status.success() {
        // The writers may have been faster.
        let why = String::from_utf8_lossy(&said.stderr);
        ensure!(why.contains("KAFKA_STORAGE_ERROR") || why.contains("full"), "filling {BULK}: {why}");
    }
    let (_, ends) = programs.bounds(address, BULK)?;
    Ok(ends.iter().sum::<u64>() * 1000 > ROOM / 8)
}

/// Deletes most of what is there, or what is there for it.
fn make_room(context: &Context, session: &mut Session<'_>, way: Way) -> Result<()> {
    let (programs, address) = (&context.programs, session.broker.address.clone());
    match way {
        Way::DeleteRecords => {
            let read = session.traffic.ledger.ends();
            delete_records(context, session, &read)
        }
        Way::Retention => retain_little(context, session),
        Way::Delete => programs.ask(&address, "delete", &[format!("topic={BULK}")]).map(drop),
    }
}

/// Deletes what had been read the last time and reads on: what is deleted was acknowledged long enough ago to have been compared.
fn delete_older(context: &Context, session: &mut Session<'_>, read: &mut Vec<u64>) -> Result<()> {
    session.traffic.verify()?;
    let older = std::mem::replace(read, session.traffic.ledger.ends());
    delete_records(context, session, &older)
}

/// Deletes the records in front of these offsets.
fn delete_records(context: &Context, session: &mut Session<'_>, to: &[u64]) -> Result<()> {
    let words = [format!("topic={TOPIC}"), format!("to={}", list(to))];
    let starts = context.programs.ask(&session.broker.address, "trim", &words)?;
    let starts: Vec<u64> = starts.split(',').map(str::parse).collect::<Result<_, _>>()?;
    session.traffic.ledger.trim(&starts);
    Ok(())
}

fn retain_little(context: &Context, session: &mut Session<'_>) -> Result<()> {
    let (programs, address) = (&context.programs, session.broker.address.clone());
    let alter = |value: &str| {
        let words = [format!("topic={TOPIC}"), format!("set=retention.bytes={value}")];
        programs.ask(&address, "alter", &words).map(drop)
    };
    alter("100000")?;
    let disk = session.traffic.folder.join("disk");
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(200));
        let (starts, _) = programs.bounds(&address, TOPIC)?;
        if starts.iter().all(|start| *start > 0) && space(&disk)? > ROOM / 4 {
            alter("-1")?;
            // It may go on until the change is heard of.
            std::thread::sleep(Duration::from_millis(1500));
            let (starts, _) = programs.bounds(&address, TOPIC)?;
            session.traffic.ledger.trim(&starts);
            return session.traffic.verify();
        }
    }
    bail!("retention.bytes does not make room within 60 s")
}
