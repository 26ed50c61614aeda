//! How threads of a node hand things to a shard: a queue and a wake-up. What is in it is bounded by what clients may have
//! in work (`queued.max.request.bytes`, `max.connections`), since every entry answers or belongs to a request or a connection.

use std::collections::VecDeque;
use std::fs::File;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use moldau_base::disk::FileId;
use moldau_broker::{Input, Message, ShardId};
use tokio::sync::Notify;

/// What a shard's thread is given.
pub enum Item {
    /// For the shard itself.
    Input(Input),
    /// A message of another shard, with the files that its answers name.
    Message {
        /// The sender.
        from: ShardId,
        /// What it says.
        message: Box<Message>,
        /// Open files.
        files: Vec<(FileId, Arc<File>)>,
    },
    /// A connection that was accepted for this shard.
    Connection {
        /// The socket, non-blocking.
        stream: std::net::TcpStream,
        /// The client's address.
        address: IpAddr,
        /// The listener it came through, by place.
        listener: u16,
    },
    /// Take no more requests, finish those in work, flush, and end.
    Stop,
}

/// The mailbox of one shard.
#[derive(Default)]
pub struct Mailbox {
    items: Mutex<VecDeque<Item>>,
    wake: Notify,
}

impl Mailbox {
    /// Puts one item in.
    pub fn send(&self, item: Item) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let first = items.is_empty();
        items.push_back(item);
        drop(items);
        if first {
            self.wake.notify_one();
        }
    }

    /// Takes everything out, in order.
    pub fn take(&self) -> VecDeque<Item> {
        std::mem::take(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the shard's thread without an item.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Waits until something is there, or a nudge came.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }
}
