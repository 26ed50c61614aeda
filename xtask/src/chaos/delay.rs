//! Holds every packet that arrives in the network namespace where it runs, for a while: what `tc netem` does, for kernels without it.
//!
//! The kernel hands packets to queue 0 by a rule (see [`crate::cluster::ground`]) and this process gives its verdict late. Only their numbers
//! are copied, not the packets. When it ends, what it holds is lost, as on a network.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nfq::{Message, Queue, Verdict};

/// How often it looks whether something is due.
const STEP: Duration = Duration::from_micros(500);
/// Most packets that it holds; more pass at once.
const MOST: u32 = 20_000;

/// Options of the hidden command `delay`.
#[derive(clap::Args)]
pub struct Args {
    /// For how long a packet is held
    #[arg(long)]
    millis: u64,
}

/// Holds packets until it is ended.
pub fn run(args: &Args) -> Result<()> {
    let held_for = Duration::from_millis(args.millis);
    let mut queue = Queue::open().context("the kernel hands no packets out")?;
    queue.bind(0)?;
    queue.set_copy_range(0, 0)?;
    queue.set_queue_max_len(0, MOST)?;
    queue.set_fail_open(0, true)?;
    queue.set_nonblocking(true);
    println!("ready");
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    loop {
        match queue.recv() {
            Ok(message) => held.push_back((Instant::now() + held_for, message)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(STEP),
            Err(error) => return Err(error).context("packets cannot be taken"),
        }
        let now = Instant::now();
        while held.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, mut message)) = held.pop_front() else { break };
            message.set_verdict(Verdict::Accept);
            queue.verdict(message)?;
        }
    }
}
