//! One life of the simulated node: its shards, the disk operations and messages under way between them, its connections. It
//! carries out what shards want and checks what a host may rely on; when things happen is the world's business.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use moldau_base::disk::{DirId, Done, Fault, FileId, Op, OpId};
use moldau_base::{Mono, Now};
use moldau_broker::{Address, ConnId, Effect, Input, Lane, Message, Shard, ShardId, ToPeer, ToQuorum, Trace};
use moldau_wire::{Frame, Segment};

use crate::disk::{Handle, Queue};
use crate::net::{Assembler, Link, Piece};
use crate::world::Life;

/// A produce request that wants no answer can be refused in no other way than by closing the connection.
const UNANSWERED: &str = "produce without acknowledgement failed";
/// A request in a version that this release does not know.
const NOT_SERVED: &str = "is not served";

/// What the world must do for a shard, once its effects are sorted out.
#[derive(Debug)]
pub(crate) enum Want {
    /// Do something on the disk.
    Disk(OpId, Op),
    /// Send a response.
    Send(Link, Vec<Piece>),
    /// Close a connection.
    Close(Link),
    /// Deliver the next message to another shard.
    Mail(u16),
    /// Tell the metadata quorum.
    Quorum(ToQuorum),
    /// Call another node.
    Call(Call),
    /// Close a connection to another node.
    HangUp(Lane),
    /// The node is ready.
    Ready,
    /// The shard has stopped.
    Stopped,
    /// The node has to end.
    Failed(String),
    /// A log line.
    Say(String),
    /// The shard broke the contract with its host.
    Broken(String),
}

/// A call to another node.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) lane: Lane,
    pub(crate) address: Address,
    pub(crate) bytes: Bytes,
}

/// A message, and the files that its answers name.
type Mail = (Box<Message>, Vec<(FileId, Handle)>);

/// A connection as the broker sees it.
#[derive(Debug)]
struct Served {
    shard: u16,
    assembler: Assembler,
    unanswered: u64,
}

/// A connection to another node.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) link: Link,
    pub(crate) address: Address,
    /// The other node has accepted; until then what is to be sent waits in `unsent`.
    pub(crate) is_open: bool,
    pub(crate) unsent: Vec<Bytes>,
    /// Calls without an answer, in order.
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) assembler: Assembler,
}

/// One life of the node.
pub(crate) struct Process {
    /// Counts the lives; what was meant for an earlier one is ignored.
    pub(crate) life: Life,
    /// When it began.
    pub(crate) born: Mono,
    shards: Vec<Shard>,
    ticks: Vec<Option<Mono>>,
    /// Disk operations under way.
    pub(crate) disk: Queue,
    under_way: Vec<BTreeSet<OpId>>,
    done: BTreeMap<(u16, u32), VecDeque<(OpId, Done)>>,
    mail: BTreeMap<(u16, u16), VecDeque<Mail>>,
    /// Files that answers of other shards named, open as they were then, by shard.
    foreign: BTreeMap<(u16, FileId), Handle>,
    conns: BTreeMap<Link, Served>,
    /// Its connections to other nodes, by shard and purpose.
    pub(crate) wires: BTreeMap<(u16, Lane), Wire>,
    /// Clients can be served.
    pub(crate) ready: bool,
    /// Directories with something that had to be taken out of service: they are not clean.
    pub(crate) offline: BTreeSet<DirId>,
    /// The node is being stopped: shards that have not said that they are, and for how many milliseconds it will be down.
    pub(crate) stopping: Option<(u16, u64)>,
    /// Operations that were asked for in this step, for the trace.
    pub(crate) asked: Vec<(OpId, String)>,
    /// There are clients that send what they like, whose connections may be refused.
    pub(crate) strangers: bool,
    /// There are other nodes.
    pub(crate) is_of_cluster: bool,
    tell: bool,
}

impl Process {
    pub(crate) fn new(life: Life, born: Mono, shards: Vec<Shard>, disk: Queue, tell: bool) -> Process {
        Process {
            life,
            born,
            ticks: vec![None; shards.len()],
            under_way: vec![BTreeSet::new(); shards.len()],
            done: BTreeMap::new(),
            shards,
            disk,
            mail: BTreeMap::new(),
            foreign: BTreeMap::new(),
            conns: BTreeMap::new(),
            wires: BTreeMap::new(),
            ready: false,
            offline: BTreeSet::new(),
            stopping: None,
            asked: Vec::new(),
            strangers: false,
            is_of_cluster: false,
            tell,
        }
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// Lets a shard take in one input and sorts out what it wants.
    pub(crate) fn step(&mut self, shard: u16, now: Now, input: Input) -> Vec<Want> {
        if let Input::DiskDone { op, .. } = &input {
            self.under_way[usize::from(shard)].remove(op);
        }
        let mut effects = Vec::new();
        self.shards[usize::from(shard)].step(now, input, &mut effects);
        let wants = effects.into_iter().filter_map(|effect| self.sort(shard, effect)).collect();
        if !self.foreign.is_empty() {
            let named: BTreeSet<FileId> = self.shards[usize::from(shard)].named_files().collect();
            self.foreign.retain(|(of, file), _| *of != shard || named.contains(file));
        }
        wants
    }

    /// Tells a shard to stop in good order, and sorts out what it wants.
    pub(crate) fn stop(&mut self, shard: u16, now: Now) -> Vec<Want> {
        let mut effects = Vec::new();
        self.shards[usize::from(shard)].stop(now, &mut effects);
        effects.into_iter().filter_map(|effect| self.sort(shard, effect)).collect()
    }

    fn sort(&mut self, shard: u16, effect: Effect) -> Option<Want> {
        match effect {
            Effect::Reply { conn, frame } => self.reply(shard, conn, frame),
            Effect::Close { conn, reason: _ } => {
                let link = Link(conn.0);
                self.conns.remove(&link).map(|_| Want::Close(link))
            }
            Effect::Send(ToPeer::Quorum(news)) => Some(Want::Quorum(news)),
            Effect::Send(ToPeer::Call { call, lane, address, frame }) => Some(match frame.into_bytes() {
                Ok(bytes) => Want::Call(Call { id: call, lane, address, bytes }),
                Err(error) => Want::Broken(format!("shard {shard} calls {lane:?} with {error}")),
            }),
            Effect::Send(ToPeer::HangUp { lane }) => Some(Want::HangUp(lane)),
            Effect::Disk { op, what } => self.operate(shard, op, what),
            Effect::ToShard { to, message } => self.post(shard, to, message),
            Effect::Trace(trace) => Some(match trace {
                Trace::Ready { .. } => Want::Ready,
                Trace::Stopped => Want::Stopped,
                Trace::Failed { why } => Want::Failed(why),
                // It is to refuse writes, and to go on by itself.
                Trace::Offline { path, why } if why == Fault::Full.to_string() => {
                    Want::Broken(format!("shard {shard}: a full disk took {path} out of service"))
                }
                Trace::Offline { path, why } => {
                    self.offline.insert(path.dir);
                    Want::Say(format!("{path} is offline: {why}"))
                }
                // A node that has been restarted as an older release is called once more as what it was.
                Trace::BadClient { what, .. } if self.is_of_cluster && what.ends_with(NOT_SERVED) => {
                    Want::Say(what)
                }
                Trace::BadClient { conn, what } if !self.strangers && !what.starts_with(UNANSWERED) => {
                    Want::Broken(format!("a good client's connection {} was refused: {what}", conn.0))
                }
                other => Want::Say(format!("{other:?}")),
            }),
        }
    }

    fn reply(&mut self, shard: u16, conn: ConnId, frame: Option<Frame>) -> Option<Want> {
        let link = Link(conn.0);
        let Some(served) = self.conns.get_mut(&link).filter(|served| served.shard == shard) else {
            return Some(Want::Broken(format!(
                "shard {shard} replied on connection {}, which it does not have",
                conn.0
            )));
        };
        if served.unanswered == 0 {
            return Some(Want::Broken(format!(
                "shard {shard} replied twice to a frame of connection {}",
                conn.0
            )));
        }
        served.unanswered -= 1;
        let frame = frame?;
        let mut pieces = Vec::with_capacity(frame.segments.len());
        for segment in frame.segments {
            pieces.push(match segment {
                Segment::Bytes(bytes) => Piece::Bytes(bytes),
                Segment::File(range) => match self.file(shard, FileId(range.file)) {
                    Some(file) => Piece::File(file, range.position, range.len),
                    None => {
                        return Some(Want::Broken(format!(
                            "a response sends from file {}, which is not open",
                            range.file
                        )));
                    }
                },
            });
        }
        Some(Want::Send(link, pieces))
    }

    fn operate(&mut self, shard: u16, op: OpId, what: Op) -> Option<Want> {
        if !self.under_way[usize::from(shard)].insert(op) {
            return Some(Want::Broken(format!("shard {shard} named two operations {op:?}")));
        }
        self.disk.announce(&what);
        if self.tell {
            self.asked.push((op, brief(&what)));
        }
        Some(Want::Disk(op, what))
    }

    fn file(&mut self, shard: u16, file: FileId) -> Option<Handle> {
        self.foreign.get(&(shard, file)).cloned().or_else(|| self.disk.handle(file))
    }

    fn post(&mut self, shard: u16, to: ShardId, message: Box<Message>) -> Option<Want> {
        if usize::from(to.0) >= self.shards.len() || to.0 == shard {
            return Some(Want::Broken(format!("shard {shard} wrote to shard {}", to.0)));
        }
        // The files that an answer names travel with it, open: the log may delete them before the answer is sent.
        let files = message.files().filter_map(|file| Some((file, self.disk.handle(file)?))).collect();
        self.mail.entry((shard, to.0)).or_default().push_back((message, files));
        Some(Want::Mail(to.0))
    }

    /// An operation of an owner is done; the owner will be told in the order in which they were.
    pub(crate) fn note_done(&mut self, shard: u16, op: OpId, done: Done) {
        self.done.entry((shard, op.owner)).or_default().push_back((op, done));
    }

    /// The oldest end of an operation that the owner was not told.
    pub(crate) fn next_done(&mut self, shard: u16, owner: u32) -> Option<Input> {
        let (op, done) = self.done.get_mut(&(shard, owner))?.pop_front()?;
        Some(Input::DiskDone { op, done })
    }

    /// The oldest message from one shard to another.
    pub(crate) fn receive(&mut self, from: u16, to: u16) -> Option<Input> {
        let (message, files) = self.mail.get_mut(&(from, to))?.pop_front()?;
        self.foreign.extend(files.into_iter().map(|(file, handle)| ((to, file), handle)));
        Some(Input::FromShard { from: ShardId(from), message })
    }

    /// The moment at which the shard wants a tick, if it is not arranged for yet. Time is the world's.
    pub(crate) fn next_tick(&mut self, shard: u16) -> Option<Mono> {
        let place = usize::from(shard);
        let deadline = Mono(self.shards[place].deadline()?.0.saturating_add(self.born.0));
        if self.ticks[place].is_some_and(|arranged| arranged <= deadline) {
            return None;
        }
        self.ticks[place] = Some(deadline);
        Some(deadline)
    }

    /// A tick that was arranged for `due` happens; false when another one took its place.
    pub(crate) fn ticks(&mut self, shard: u16, due: Mono) -> bool {
        let arranged = &mut self.ticks[usize::from(shard)];
        let is_it = *arranged == Some(due);
        if is_it {
            *arranged = None;
        }
        is_it
    }

    /// A client has connected to a shard.
    pub(crate) fn accept(&mut self, link: Link, shard: u16) {
        self.conns.insert(link, Served { shard, assembler: Assembler::default(), unanswered: 0 });
    }

    /// The shard of a connection.
    pub(crate) fn shard_of(&self, link: Link) -> Option<u16> {
        self.conns.get(&link).map(|served| served.shard)
    }

    /// Bytes have arrived; the frames that are whole now. On an error no frame can be found on this connection any more.
    pub(crate) fn take(&mut self, link: Link, piece: &[u8]) -> Result<Vec<Bytes>, moldau_wire::FrameError> {
        let Some(served) = self.conns.get_mut(&link) else { return Ok(Vec::new()) };
        let frames = served.assembler.take(piece)?;
        served.unanswered += frames.len() as u64;
        Ok(frames)
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, link: Link) {
        self.conns.remove(&link);
    }

    /// The controller's image.
    pub(crate) fn image(&self) -> Option<&moldau_controller::Image> {
        self.shards.first()?.controller_image()
    }

    /// Its shards.
    pub(crate) fn each_shard(&self) -> &[Shard] {
        &self.shards
    }

    /// The connections that the broker has.
    pub(crate) fn connections(&self) -> Vec<Link> {
        self.conns.keys().copied().collect()
    }
}

/// An operation in a few words.
fn brief(op: &Op) -> String {
    match op {
        Op::Open { file, path, create } => {
            let how = if *create { "create" } else { "open" };
            format!("{how} {} as {}", path, file.0)
        }
        Op::Write { file, position, parts } => {
            format!("write {} bytes to {} at {position}", parts.iter().map(Bytes::len).sum::<usize>(), file.0)
        }
        Op::Sync { file } => format!("sync {}", file.0),
        Op::Read { file, position, len } => format!("read {len} bytes of {} at {position}", file.0),
        Op::Truncate { file, len } => format!("truncate {} to {len}", file.0),
        Op::Replace { path, data } => format!("replace {path} by {} bytes", data.len()),
        Op::Rename { from, to } => format!("rename {from} to {to}"),
        Op::Close { file } => format!("close {}", file.0),
        Op::Remove { path } => format!("remove {path}"),
    }
}
