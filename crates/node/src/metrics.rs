//! The node's metrics, under names that follow Kafka's where Kafka has the metric. Counting happens in the shards as plain
//! numbers; each shard's host publishes what has changed, once a second. There is no global registry.

use moldau_broker::Metrics as Counted;
use moldau_wire::ApiKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The API of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabel {
    /// Kafka's name of the API.
    pub request: &'static str,
}

/// All metrics of a node; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    bytes_in: Counter,
    bytes_out: Counter,
    messages_in: Counter,
    produce_refused: Counter,
    fetches_parked: Counter,
    requests: Family<ApiLabel, Counter>,
    partitions: Gauge,
    requests_in_work: Gauge,
    connections: Gauge,
    open_files: Gauge,
    request_memory_bytes: Gauge,
    /// Connections accepted since start.
    pub connections_accepted: Counter,
    /// Connections refused because of `max.connections` or `max.connections.per.ip`.
    pub connections_refused: Counter,
    /// Connections closed because nothing was asked for `connections.max.idle.ms`.
    pub connections_idle: Counter,
    /// Connections closed because of bytes that are no request, or a request that cannot be answered.
    pub connections_bad: Counter,
    /// Times that reading was paused because `queued.max.request.bytes` was reached.
    pub request_memory_waits: Counter,
    /// Log directories that were taken offline.
    pub offline_log_dirs: Gauge,
}

/// What one shard has published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    counted: Counted,
    connections: i64,
    open_files: i64,
    request_memory_bytes: i64,
}

/// What a host knows beside the shard's own numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostGauges {
    /// Open connections.
    pub connections: usize,
    /// Open log files.
    pub open_files: usize,
    /// Bytes of requests in memory.
    pub request_memory_bytes: usize,
}

fn step(counter: &Counter, before: u64, now: u64) {
    counter.inc_by(now.saturating_sub(before));
}

fn moved(gauge: &Gauge, before: &mut i64, now: usize) {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    gauge.inc_by(now - *before);
    *before = now;
}

impl Metrics {
    /// Adds what has changed in a shard since it published last.
    pub fn publish(&self, before: &mut Published, now: &Counted, host: HostGauges) {
        step(&self.bytes_in, before.counted.bytes_in, now.bytes_in);
        step(&self.bytes_out, before.counted.bytes_out, now.bytes_out);
        step(&self.messages_in, before.counted.records_in, now.records_in);
        step(&self.produce_refused, before.counted.produce_refused, now.produce_refused);
        step(&self.fetches_parked, before.counted.fetches_parked, now.fetches_parked);
        self.partitions.inc_by(now.partitions as i64 - before.counted.partitions as i64);
        self.requests_in_work.inc_by(now.requests_in_work as i64 - before.counted.requests_in_work as i64);
        for key in ApiKey::ALL {
            let (old, new) = (before.counted.requests_of(key), now.requests_of(key));
            if new > old {
                self.requests.get_or_create(&ApiLabel { request: key.name() }).inc_by(new - old);
            }
        }
        moved(&self.connections, &mut before.connections, host.connections);
        moved(&self.open_files, &mut before.open_files, host.open_files);
        moved(&self.request_memory_bytes, &mut before.request_memory_bytes, host.request_memory_bytes);
        before.counted = now.clone();
    }

    /// A registry with all of them under their names.
    pub fn registry(&self) -> Registry {
        let mut r = Registry::default();
        let counters = [
            ("kafka_server_brokertopicmetrics_bytesin", "Bytes that producers had appended", &self.bytes_in),
            ("kafka_server_brokertopicmetrics_bytesout", "Bytes that consumers were sent", &self.bytes_out),
            (
                "kafka_server_brokertopicmetrics_messagesin",
                "Records that producers had appended",
                &self.messages_in,
            ),
            (
                "kafka_server_brokertopicmetrics_failedproducerequests",
                "Appends refused",
                &self.produce_refused,
            ),
            ("moldau_fetches_parked", "Fetches that had to wait for records", &self.fetches_parked),
            ("moldau_connections_accepted", "Connections accepted", &self.connections_accepted),
            ("moldau_connections_refused", "Connections refused by a limit", &self.connections_refused),
            ("moldau_connections_idle_closed", "Connections closed as idle", &self.connections_idle),
            ("moldau_connections_bad_closed", "Connections closed for bad bytes", &self.connections_bad),
            (
                "moldau_request_memory_waits",
                "Times reading paused because request memory was full",
                &self.request_memory_waits,
            ),
        ];
        for (name, help, counter) in counters {
            r.register(name, help, counter.clone());
        }
        let gauges = [
            ("kafka_server_replicamanager_partitioncount", "Partitions of this node", &self.partitions),
            ("kafka_server_socket_server_metrics_connection_count", "Connections open", &self.connections),
            (
                "kafka_log_logmanager_offlinelogdirectorycount",
                "Log directories taken offline",
                &self.offline_log_dirs,
            ),
            ("moldau_requests_in_work", "Requests that wait for something", &self.requests_in_work),
            ("moldau_request_memory_bytes", "Bytes of requests in memory", &self.request_memory_bytes),
            ("moldau_log_open_files", "Log files open", &self.open_files),
        ];
        for (name, help, gauge) in gauges {
            r.register(name, help, gauge.clone());
        }
        r.register("kafka_network_requestmetrics_requests", "Requests taken in", self.requests.clone());
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let metrics = Metrics::default();
        let (mut one, mut other) = (Published::default(), Published::default());
        let counted = |bytes_in, partitions| {
            let mut counted = Counted::default();
            (counted.bytes_in, counted.partitions) = (bytes_in, partitions);
            counted
        };
        let host = HostGauges { connections: 3, ..HostGauges::default() };
        metrics.publish(&mut one, &counted(10, 2), host);
        metrics.publish(&mut other, &counted(5, 1), host);
        metrics.publish(&mut one, &counted(11, 1), HostGauges::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        assert!(text.contains("kafka_server_brokertopicmetrics_bytesin_total 16\n"), "{text}");
        assert!(text.contains("kafka_server_replicamanager_partitioncount 2\n"), "{text}");
        assert!(text.contains("kafka_server_socket_server_metrics_connection_count 3\n"), "{text}");
    }
}
