//! Counters of one shard. Plain numbers; the host reads them on the shard's thread and publishes the sums.

/// Counters and gauges of a shard, in the meaning of Kafka's metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Requests taken in.
    pub requests: u64,
    /// Requests answered.
    pub responses: u64,
    /// Requests that were answered by closing the connection.
    pub connections_refused: u64,
    /// Open connections (gauge).
    pub connections: u64,
    /// Partitions of this shard (gauge).
    pub partitions: u64,
    /// Requests that wait for something (gauge).
    pub requests_in_work: u64,
    /// Bytes of record batches appended for producers.
    pub bytes_in: u64,
    /// Bytes of record batches found for fetches.
    pub bytes_out: u64,
    /// Batches appended for producers.
    pub batches_in: u64,
    /// Produce requests refused, per partition.
    pub produce_refused: u64,
    /// Fetch requests that were parked because nothing was there.
    pub fetches_parked: u64,
}
