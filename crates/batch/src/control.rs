//! Control records: what brokers write among users' records. The key says which kind, the value depends on it (KIP-98).

use bytes::{Buf, Bytes};

use crate::split::Batch;

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its records are to be skipped by readers of committed data.
    Abort,
    /// Its records count.
    Commit,
}

/// A transaction marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// How the transaction ended.
    pub outcome: Outcome,
    /// Epoch of the coordinator that decided it.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// The key of its record.
    pub fn key(&self) -> [u8; 4] {
        let kind: u8 = match self.outcome {
            Outcome::Abort => 0,
            Outcome::Commit => 1,
        };
        [0, 0, 0, kind]
    }

    /// The value of its record.
    pub fn value(&self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }

    /// Reads a control record; `None` for other kinds and for versions below 0. Fields that later versions append are ignored.
    pub fn read(mut key: Bytes, mut value: Bytes) -> Option<Marker> {
        let key_version = key.try_get_i16().ok()?;
        let outcome = match key.try_get_i16().ok()? {
            0 => Outcome::Abort,
            1 => Outcome::Commit,
            _ => return None,
        };
        let value_version = value.try_get_i16().ok()?;
        let coordinator_epoch = value.try_get_i32().ok()?;
        (key_version >= 0 && value_version >= 0).then_some(Marker { outcome, coordinator_epoch })
    }
}

impl Batch {
    /// The transaction marker that it holds, if it is a control batch with one. Markers are never compressed.
    pub fn marker(&self) -> Option<Marker> {
        if !self.header().attributes.is_control() {
            return None;
        }
        let record = self.records(0).ok()?.next()?.ok()?;
        Marker::read(record.key?, record.value?)
    }
}
