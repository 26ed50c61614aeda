//! The node's metrics: one item each, with Kafka's meanings; names follow the usual export of Kafka's JMX names to
//! Prometheus, with `moldau_` before those that Kafka lacks. There is no global registry: whoever starts the node
//! makes one set and hands it on.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The API of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabel {
    /// Kafka's name of the API.
    pub request: &'static str,
}

/// The API of a request and the code that answered it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabel {
    /// Kafka's name of the API.
    pub request: &'static str,
    /// Kafka's name of the error code.
    pub error: &'static str,
}

/// Upper bounds of the histograms of durations, in seconds: 100 µs to 30 s.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// All metrics of a node; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Bytes of records that producers had appended.
    pub bytes_in: Counter,
    /// Bytes of records that consumers were sent.
    pub bytes_out: Counter,
    /// Records that producers had appended.
    pub messages_in: Counter,
    /// Requests answered, by API.
    pub requests: Family<ApiLabel, Counter>,
    /// Errors answered, by API and code.
    pub errors: Family<ErrorLabel, Counter>,
    /// Time from the last byte of a request to the first byte of its answer, by API.
    pub request_seconds: Family<ApiLabel, Histogram>,
    /// Connections open.
    pub connections: Gauge,
    /// Connections accepted since start.
    pub connections_accepted: Counter,
    /// Connections refused because of a limit.
    pub connections_refused: Counter,
    /// Connections closed because nothing was asked for `connections.max.idle.ms`.
    pub connections_idle: Counter,
    /// Connections closed because of bytes that are no request.
    pub connections_bad: Counter,
    /// Bytes of requests in memory; bounded by `queued.max.request.bytes`.
    pub request_memory_bytes: Gauge,
    /// Times that reading was paused because that bound was reached.
    pub request_memory_waits: Counter,
    /// Partitions of this node.
    pub partitions: Gauge,
    /// Partitions that this node leads.
    pub leaders: Gauge,
    /// Partitions without a working log or leader.
    pub offline_partitions: Gauge,
    /// Partitions with fewer replicas in sync than they have.
    pub under_replicated: Gauge,
    /// Log directories that were taken offline.
    pub offline_log_dirs: Gauge,
    /// Time of a flush to disk.
    pub flush_seconds: Histogram,
    /// Log files open.
    pub open_files: Gauge,
    /// Batches re-encoded because a config asked for it.
    pub reencoded: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            messages_in: Counter::default(),
            requests: Family::default(),
            errors: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_idle: Counter::default(),
            connections_bad: Counter::default(),
            request_memory_bytes: Gauge::default(),
            request_memory_waits: Counter::default(),
            partitions: Gauge::default(),
            leaders: Gauge::default(),
            offline_partitions: Gauge::default(),
            under_replicated: Gauge::default(),
            offline_log_dirs: Gauge::default(),
            flush_seconds: seconds(),
            open_files: Gauge::default(),
            reencoded: Counter::default(),
        }
    }
}

impl Metrics {
    /// A registry with all of them under their names.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.register_traffic(&mut registry);
        self.register_state(&mut registry);
        registry
    }

    fn register_traffic(&self, r: &mut Registry) {
        r.register(
            "kafka_server_brokertopicmetrics_bytesin",
            "Bytes that producers had appended",
            self.bytes_in.clone(),
        );
        r.register(
            "kafka_server_brokertopicmetrics_bytesout",
            "Bytes that consumers were sent",
            self.bytes_out.clone(),
        );
        r.register(
            "kafka_server_brokertopicmetrics_messagesin",
            "Records that producers had appended",
            self.messages_in.clone(),
        );
        r.register("kafka_network_requestmetrics_requests", "Requests answered", self.requests.clone());
        r.register("kafka_network_requestmetrics_errors", "Errors answered", self.errors.clone());
        r.register(
            "kafka_network_requestmetrics_totaltime_seconds",
            "Time from the last byte of a request to the first byte of its answer",
            self.request_seconds.clone(),
        );
        r.register(
            "kafka_server_socket_server_metrics_connection_count",
            "Connections open",
            self.connections.clone(),
        );
        r.register("moldau_connections_accepted", "Connections accepted", self.connections_accepted.clone());
        r.register(
            "moldau_connections_refused",
            "Connections refused by a limit",
            self.connections_refused.clone(),
        );
        r.register(
            "moldau_connections_idle_closed",
            "Connections closed as idle",
            self.connections_idle.clone(),
        );
        r.register(
            "moldau_connections_bad_closed",
            "Connections closed for bad bytes",
            self.connections_bad.clone(),
        );
        r.register(
            "moldau_request_memory_bytes",
            "Bytes of requests in memory",
            self.request_memory_bytes.clone(),
        );
        r.register(
            "moldau_request_memory_waits",
            "Times that reading was paused because request memory was full",
            self.request_memory_waits.clone(),
        );
    }

    fn register_state(&self, r: &mut Registry) {
        r.register(
            "kafka_server_replicamanager_partitioncount",
            "Partitions of this node",
            self.partitions.clone(),
        );
        r.register(
            "kafka_server_replicamanager_leadercount",
            "Partitions that this node leads",
            self.leaders.clone(),
        );
        r.register(
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions without a leader",
            self.offline_partitions.clone(),
        );
        r.register(
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Partitions with fewer replicas in sync than they have",
            self.under_replicated.clone(),
        );
        r.register(
            "kafka_log_logmanager_offlinelogdirectorycount",
            "Log directories that were taken offline",
            self.offline_log_dirs.clone(),
        );
        r.register(
            "kafka_log_logflushstats_logflushrateandtime_seconds",
            "Time of a flush to disk",
            self.flush_seconds.clone(),
        );
        r.register("moldau_log_open_files", "Log files open", self.open_files.clone());
        r.register(
            "moldau_batches_reencoded",
            "Batches re-encoded because a config asked",
            self.reencoded.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_dashboards_ask_for() {
        let metrics = Metrics::default();
        metrics.messages_in.inc_by(3);
        metrics.requests.get_or_create(&ApiLabel { request: "Fetch" }).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        assert!(text.contains("kafka_server_brokertopicmetrics_messagesin_total 3"), "{text}");
        assert!(text.contains("kafka_network_requestmetrics_requests_total{request=\"Fetch\"} 1"), "{text}");
    }
}
