//! A disk in memory that forgets what was not synced, and a host that carries out a log's operations on it, at once or in
//! an order that a seed decides.

#![allow(dead_code, reason = "each test uses a part")]

mod disk;
mod host;

pub use disk::{Crash, ModelDisk};
pub use host::{Host, Pace};

use bytes::Bytes;
use moldau_batch::{Batch, Builder, Codec};

/// A batch of `count` records with values of `size` bytes, timestamps from `timestamp` on.
pub fn batch(count: i32, size: usize, timestamp: i64) -> Batch {
    producer_batch(None, count, size, timestamp)
}

/// As [`batch`], of a producer: id, epoch, first sequence.
pub fn producer_batch(producer: Option<(i64, i16, i32)>, count: i32, size: usize, timestamp: i64) -> Batch {
    let mut builder = Builder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    let value = vec![b'v'; size];
    for i in 0..count {
        builder.push(timestamp + i64::from(i), None, Some(&value), &[]);
    }
    let bytes: Bytes = builder.build().expect("a batch");
    Batch::verify(&bytes).expect("a valid batch")
}
