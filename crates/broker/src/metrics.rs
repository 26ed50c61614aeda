//! Counters of one shard. Plain numbers; the host reads them on the shard's thread and publishes the sums.

use moldau_wire::ApiKey;

/// One more than the greatest API key of Kafka 4.3.
const API_KEYS: usize = 93;

/// Counters and gauges of a shard, in the meaning of Kafka's metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Requests taken in, by API key.
    requests: [u64; API_KEYS],
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
    /// Records appended for producers.
    pub records_in: u64,
    /// Batches appended for producers.
    pub batches_in: u64,
    /// Produce requests refused, per partition.
    pub produce_refused: u64,
    /// Fetch requests that were parked because nothing was there.
    pub fetches_parked: u64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: [0; API_KEYS],
            responses: 0,
            connections_refused: 0,
            connections: 0,
            partitions: 0,
            requests_in_work: 0,
            bytes_in: 0,
            bytes_out: 0,
            records_in: 0,
            batches_in: 0,
            produce_refused: 0,
            fetches_parked: 0,
        }
    }
}

impl Metrics {
    /// Requests of this API taken in.
    pub fn requests_of(&self, api: ApiKey) -> u64 {
        self.requests.get(api as usize).copied().unwrap_or(0)
    }

    pub(crate) fn request(&mut self, api: ApiKey) {
        if let Some(count) = self.requests.get_mut(api as usize) {
            *count += 1;
        }
    }
}
