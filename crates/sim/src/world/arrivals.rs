//! What arrives at a node by the simulated network, as its sockets take it in: connections are accepted or refused, bytes become frames,
//! and the shard that has a connection is told.

use std::net::{IpAddr, Ipv4Addr};

use moldau_broker::{ConnId, Input};

use super::World;
use crate::failure;
use crate::net::{Arrival, Link, Side, Spot};
use crate::process::Process;

impl World {
    /// The node to which a connection was made, by its place.
    pub(super) fn server_of(&self, link: Link) -> usize {
        match self.net.spot(link, Side::Broker) {
            Some(Spot::Node(node)) => node,
            Some(Spot::Clients) | None => 0,
        }
    }

    pub(super) fn reached(&mut self, node: usize, link: Link, arrival: Arrival) {
        match arrival {
            Arrival::Open => self.accept(node, link),
            Arrival::Closed | Arrival::Refused => self.hung_up(node, link),
            Arrival::Bytes(piece) => {
                let Some(process) = self.nodes[node].process.as_mut() else { return };
                let Some(shard) = process.shard_of(link) else { return };
                let Ok(frames) = process.take(link, &piece) else { return self.cut_off(node, link) };
                for bytes in frames {
                    self.step(node, shard, Input::Frame { conn: ConnId(link.0), bytes });
                }
            }
            Arrival::Late(_) | Arrival::Short => {}
        }
    }

    fn accept(&mut self, node: usize, link: Link) {
        let now = self.clock.now();
        let listener = self.net.listener(link);
        let is_open = |process: &&Process| match listener {
            0 => process.ready && self.setup.weather.role(node).is_broker(),
            _ => process.stopping.is_none() && self.setup.weather.role(node).is_voter(),
        };
        let shards = self.nodes[node].process.as_ref().filter(is_open).map(Process::shards);
        let Some(shards) = shards else { return self.refuse(node, link) };
        let shard = if listener == 0 { self.rng.below(u64::from(shards)) as u16 } else { 0 };
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.accept(link, shard);
        }
        let due = self.net.send(now, link, Side::Client, Arrival::Open);
        self.arrives(link, Side::Client, due);
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, (link.0 >> 8) as u8, link.0 as u8));
        self.step(node, shard, Input::Accepted { conn: ConnId(link.0), address, listener });
    }

    /// Nobody listens. Another node is told so, if the machine has power; a client's connection is closed.
    fn refuse(&mut self, node: usize, link: Link) {
        let now = self.clock.now();
        if self.net.spot(link, Side::Client) == Some(Spot::Clients) {
            let due = self.net.close(now, link, Side::Broker);
            return self.arrives(link, Side::Client, due);
        }
        if !self.nodes[node].dark {
            let due = self.net.send(now, link, Side::Client, Arrival::Refused);
            self.arrives(link, Side::Client, due);
        }
        self.net.shut(link, Side::Broker);
    }

    pub(super) fn hung_up(&mut self, node: usize, link: Link) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if let Some(shard) = process.shard_of(link) {
            process.forget(link);
            self.step(node, shard, Input::Closed { conn: ConnId(link.0) });
        }
    }

    /// What arrives is no frame: the node closes the connection.
    fn cut_off(&mut self, node: usize, link: Link) {
        if !self.setup.strangers {
            let what = format!("a good client sent a bad frame on connection {}", link.0);
            return self.fail(failure::BAD_ANSWER, what);
        }
        self.hung_up(node, link);
        let due = self.net.close(self.clock.now(), link, Side::Broker);
        self.arrives(link, Side::Client, due);
    }
}
