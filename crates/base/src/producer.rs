//! What is remembered of one idempotent producer in one partition, as plain numbers: the row of Kafka's producer
//! snapshot files, of DescribeProducers and of the partition core's export (KIP-98, KIP-360, KIP-664).

/// One producer's row. Absent numbers are `None` here and -1 in files and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The producer's id.
    pub producer_id: i64,
    /// Its newest epoch; older ones are fenced.
    pub epoch: i16,
    /// Sequence number of the last record of its last batch; `None` when only a marker of this epoch is known.
    pub last_sequence: Option<i32>,
    /// Offset of the last record of its last batch; `None` as above.
    pub last_offset: Option<i64>,
    /// `last_offset` minus the base offset of that batch.
    pub offset_delta: i32,
    /// Greatest timestamp of that batch, in milliseconds; -1 when there is none.
    pub timestamp: i64,
    /// Epoch of the transaction coordinator that wrote the last marker.
    pub coordinator_epoch: Option<i32>,
    /// First offset of the transaction that is open.
    pub txn_first_offset: Option<i64>,
}
