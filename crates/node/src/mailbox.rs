//! How threads of a node hand things to a shard: a queue and a wake-up. What is in it is bounded by what clients may have
//! in work (`queued.max.request.bytes`, `max.connections`), since every entry answers or belongs to a request or a connection.
//!
//! A wake-up is a system call for each side, so a thread is woken only while it sleeps: it says so just before (a hook of its
//! event loop), and looks into the mailbox once more. While it is awake it empties the mailbox after each turn of a connection.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use moldau_base::disk::FileId;
use moldau_broker::{ConnId, Input, Message, ShardId};
use tokio::sync::Notify;

use crate::files::Opened;

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
        files: Vec<(FileId, Opened)>,
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
    /// What a connection has to send next is in memory now.
    Warmed(ConnId),
    /// Shard 0: have others lead what this node leads; requests are served meanwhile.
    Leave,
    /// Take no more requests, finish those in work, flush, and end.
    Stop,
}

/// The mailbox of one shard.
#[derive(Default)]
pub struct Mailbox {
    items: Mutex<VecDeque<Item>>,
    /// The shard's thread sleeps, or is about to: whoever puts something in has to wake it.
    asleep: AtomicBool,
    wake: Notify,
}

impl Mailbox {
    /// Puts one item in.
    pub fn send(&self, item: Item) {
        self.send_all(std::iter::once(item));
    }

    /// Puts several in, in order.
    pub fn send_all(&self, items: impl IntoIterator<Item = Item>) {
        self.lock().extend(items);
        self.wake_sleeper();
    }

    /// Takes everything out, in order, into `items`, which is empty and whose memory the mailbox uses from now on.
    pub fn take(&self, items: &mut VecDeque<Item>) {
        debug_assert!(items.is_empty());
        std::mem::swap(&mut *self.lock(), items);
    }

    /// The shard's thread will sleep unless something is there. What is put in after this look finds `asleep` set.
    pub fn before_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.lock().is_empty() {
            self.wake_sleeper();
        }
    }

    /// The shard's thread is awake, and will look by itself before it sleeps again.
    pub fn after_sleep(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Wakes the shard's thread without an item.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Waits until a thread that slept has something, or a nudge came.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    fn wake_sleeper(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls once.
    fn is_woken(mailbox: &Mailbox) -> bool {
        let mut ready = std::pin::pin!(mailbox.ready());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::future::Future::poll(ready.as_mut(), &mut context).is_ready()
    }

    fn count(mailbox: &Mailbox) -> usize {
        let mut items = VecDeque::new();
        mailbox.take(&mut items);
        items.len()
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let mailbox = Mailbox::default();
        mailbox.send(Item::Stop);
        assert!(!is_woken(&mailbox), "it is awake");
        assert_eq!(count(&mailbox), 1);
        mailbox.before_sleep();
        assert!(!is_woken(&mailbox), "nothing is there");
        mailbox.send_all([Item::Stop, Item::Stop]);
        mailbox.send(Item::Stop);
        assert!(is_woken(&mailbox), "it sleeps");
        assert!(!is_woken(&mailbox), "one wake-up for all");
        assert_eq!(count(&mailbox), 3);
    }

    #[test]
    fn nobody_falls_asleep_over_a_full_mailbox() {
        let mailbox = Mailbox::default();
        mailbox.send(Item::Stop);
        mailbox.before_sleep();
        assert!(is_woken(&mailbox));
        mailbox.after_sleep();
        mailbox.send(Item::Stop);
        assert!(!is_woken(&mailbox), "it is awake again");
    }
}
