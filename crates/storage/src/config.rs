//! What a topic's configuration means to one log. Values come checked from the topic's configuration; the names are Kafka's.

/// Largest segment: positions in an offset index are 32 bits, and Kafka reads them as signed.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// The topic settings that a log obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: roll before the active segment would grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: roll when the timestamps of the active segment span more than this.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this is taken off `segment_ms`, so that partitions do not roll together.
    pub segment_jitter_ms: i64,
    /// `retention.bytes`: delete the oldest segments beyond this; -1 for no limit.
    pub retention_bytes: i64,
    /// `retention.ms`: delete segments whose newest timestamp is older; -1 for no limit.
    pub retention_ms: i64,
    /// `cleanup.policy` contains `delete`; without it, retention deletes nothing.
    pub delete: bool,
    /// `index.interval.bytes`: an index entry after at least this many bytes.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: roll when an index would grow beyond this.
    pub index_max_bytes: u32,
    /// `flush.messages`: 1 means that an append is stored when it is synced; a larger number starts a flush after so many records.
    pub flush_messages: i64,
    /// `flush.ms`: the longest time before a flush starts; what exceeds [`crate::FLUSH_INTERVAL_MS`] counts as that.
    pub flush_ms: i64,
    /// `file.delete.delay.ms`: how long the files of a removed segment stay, renamed to `.deleted`.
    pub file_delete_delay_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> LogConfig {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            retention_bytes: -1,
            retention_ms: 7 * DAY_MS,
            delete: true,
            index_interval_bytes: 4096,
            index_max_bytes: 10 << 20,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
        }
    }
}

impl LogConfig {
    /// True when an append counts as stored only once it is synced.
    pub fn syncs_every_append(&self) -> bool {
        self.flush_messages == 1
    }

    pub(crate) fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(SEGMENT_BYTES_MAX)
    }
}
