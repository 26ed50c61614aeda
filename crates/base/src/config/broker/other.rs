//! Metrics and the rest.

use super::super::def::{Def, Unit, int, list, long, text};

const METRICS: &str = "metrics are served in Prometheus form at moldau.http.listener";
const TELEMETRY: &str = "client metrics are not collected; clients skip them";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    int("kafka.metrics.polling.interval.secs", "10", "Period of the Yammer reporters.")
        .unit(Unit::Seconds)
        .min(1)
        .no_meaning(METRICS),
    list("kafka.metrics.reporters", "", "Java classes that report Yammer metrics.").no_meaning(METRICS),
    list(
        "metric.reporters",
        "org.apache.kafka.common.metrics.JmxReporter",
        "Java classes that report metrics.",
    )
    .cluster_wide()
    .no_meaning(METRICS),
    int("metrics.num.samples", "2", "Samples kept per metric.").min(1).no_meaning(METRICS),
    text("metrics.recording.level", "INFO", "Which metrics are recorded.").no_meaning(METRICS),
    long("metrics.sample.window.ms", "30000", "Length of a sample of a metric.")
        .unit(Unit::Milliseconds)
        .min(1)
        .no_meaning(METRICS),
    int("telemetry.max.bytes", "1048576", "Largest push of client metrics.")
        .unit(Unit::Bytes)
        .min(1)
        .no_meaning(TELEMETRY),
];
