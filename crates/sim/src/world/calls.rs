//! What nodes say to each other, carried by the simulated network as the node's links do it: one connection for each lane, opened when
//! there is something to send, answers in the order of the calls, and every call without an answer ends with its connection.

use std::collections::VecDeque;

use moldau_broker::{FromPeer, Input, Lane, NoAnswer};

use super::{Happening, Life, MILLI, World};
use crate::boot;
use crate::failure;
use crate::net::{Arrival, Assembler, Link, Side, Spot};
use crate::process::{Call, Process, Wire};

/// How long a connection may take to open, in milliseconds, as in the node.
const CONNECT_MS: u64 = 1_500;

/// Who made a connection between nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) life: Life,
    pub(super) shard: u16,
    pub(super) lane: Lane,
}

impl World {
    /// A shard calls another node.
    pub(super) fn call(&mut self, life: Life, shard: u16, call: Call) {
        if self.nodes.len() == 1 {
            let what = format!("shard {shard} of a node that is alone calls {:?}", call.lane);
            return self.fail(failure::BAD_SHARD, what);
        }
        let Call { id, lane, address, bytes } = call;
        let Some(process) = self.alive(life) else { return };
        if process.wires.get(&(shard, lane)).is_some_and(|wire| wire.address != address) {
            self.hang_up(life, shard, lane);
        }
        let is_there = self.alive(life).is_some_and(|process| process.wires.contains_key(&(shard, lane)));
        if !is_there {
            let Some((node, listener)) =
                boot::listener_at(&address).filter(|(node, _)| *node < self.nodes.len())
            else {
                let what =
                    format!("node {} calls {address:?}, where nobody can be", boot::node_id(life.node));
                return self.fail(failure::BAD_SHARD, what);
            };
            let link = self.connect(Caller { life, shard, lane }, node, listener);
            let Some(process) = self.alive(life) else { return };
            let wire = Wire {
                link,
                address,
                is_open: false,
                unsent: Vec::new(),
                waiting: VecDeque::new(),
                assembler: Assembler::default(),
            };
            process.wires.insert((shard, lane), wire);
        }
        let Some(wire) = self.alive(life).and_then(|process| process.wires.get_mut(&(shard, lane))) else {
            return;
        };
        wire.waiting.push_back(id);
        if !wire.is_open {
            return wire.unsent.push(bytes);
        }
        let link = wire.link;
        for due in self.net.send_bytes(self.clock.now(), link, Side::Broker, bytes) {
            self.arrives(link, Side::Broker, Some(due));
        }
    }

    fn connect(&mut self, caller: Caller, node: usize, listener: u16) -> Link {
        let link = self.shared.borrow_mut().next_link();
        self.callers.insert(link, caller);
        self.net.open(link, Spot::Node(caller.life.node), Spot::Node(node), listener);
        let due = self.net.send(self.clock.now(), link, Side::Broker, Arrival::Open);
        self.arrives(link, Side::Broker, due);
        self.clock.after(CONNECT_MS * MILLI, Happening::NotConnected(link));
        link
    }

    /// A shard closes its connection; calls on it are not answered any more.
    pub(super) fn hang_up(&mut self, life: Life, shard: u16, lane: Lane) {
        let wire = self.alive(life).and_then(|process| process.wires.remove(&(shard, lane)));
        if let Some(wire) = wire {
            self.callers.remove(&wire.link);
            let due = self.net.close(self.clock.now(), wire.link, Side::Client);
            self.arrives(wire.link, Side::Broker, due);
        }
    }

    /// Something has come from the node that was called.
    pub(super) fn called_back(&mut self, link: Link, arrival: Arrival) {
        let Some(caller) = self.callers.get(&link).copied() else { return };
        match arrival {
            Arrival::Open => self.connected(caller),
            Arrival::Closed => self.ended(link, NoAnswer::Broken),
            Arrival::Refused => self.ended(link, NoAnswer::Refused),
            Arrival::Bytes(piece) => self.answered(caller, &piece),
            Arrival::Late(_) | Arrival::Short => {}
        }
    }

    fn connected(&mut self, caller: Caller) {
        let now = self.clock.now();
        let wire =
            self.alive(caller.life).and_then(|process| process.wires.get_mut(&(caller.shard, caller.lane)));
        let Some(wire) = wire else { return };
        wire.is_open = true;
        let (link, unsent) = (wire.link, std::mem::take(&mut wire.unsent));
        for bytes in unsent {
            for due in self.net.send_bytes(now, link, Side::Broker, bytes) {
                self.arrives(link, Side::Broker, Some(due));
            }
        }
    }

    fn answered(&mut self, caller: Caller, piece: &[u8]) {
        let Caller { life, shard, lane } = caller;
        let Some(wire) = self.alive(life).and_then(|process| process.wires.get_mut(&(shard, lane))) else {
            return;
        };
        let frames = match wire.assembler.take(piece) {
            Ok(frames) => frames,
            Err(error) => {
                let what = format!("a node sent another one a bad frame: {error}");
                return self.fail(failure::BAD_ANSWER, what);
            }
        };
        for frame in frames {
            // Taking in an answer may hang up.
            let call = self
                .alive(life)
                .and_then(|process| process.wires.get_mut(&(shard, lane))?.waiting.pop_front());
            let Some(call) = call else { return };
            self.step(life.node, shard, Input::Peer(FromPeer::Answer { call, frame }));
        }
    }

    /// A connection that was not made in time never will be.
    pub(super) fn not_connected(&mut self, link: Link) {
        let Some(caller) = self.callers.get(&link).copied() else { return };
        let wire =
            self.alive(caller.life).and_then(|process| process.wires.get(&(caller.shard, caller.lane)));
        if wire.is_some_and(|wire| wire.link == link && !wire.is_open) {
            self.net.shut(link, Side::Client);
            self.ended(link, NoAnswer::Unreachable);
        }
    }

    /// The connection is gone, and with it all calls on it.
    fn ended(&mut self, link: Link, why: NoAnswer) {
        let Some(Caller { life, shard, lane }) = self.callers.remove(&link) else { return };
        let wire = self.alive(life).and_then(|process| process.wires.remove(&(shard, lane)));
        for call in wire.map(|wire| wire.waiting).unwrap_or_default() {
            self.step(life.node, shard, Input::Peer(FromPeer::NoAnswer { call, why }));
        }
    }

    /// The connections that a process has made are gone with it.
    pub(super) fn drop_calls(&mut self, process: &Process) -> Vec<Link> {
        let links: Vec<Link> = process.wires.values().map(|wire| wire.link).collect();
        self.callers.retain(|link, _| !links.contains(link));
        links
    }
}
