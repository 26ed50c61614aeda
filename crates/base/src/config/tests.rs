//! What Kafka 4.3 answers to the same values, and the resolution of layers.

use super::*;

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn refusal(name: &str, value: &str) -> String {
    match validate_topic(&values(&[(name, value)]), Audience::User) {
        Ok(_) => "accepted".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn topic_keys_are_sorted_and_their_defaults_good() {
    assert!(TOPIC.is_sorted_by(|a, b| a.name < b.name));
    for def in TOPIC {
        if let Some(default) = def.default {
            let accepted = def.accept(default).unwrap_or_else(|e| panic!("{}: {e}", def.name));
            assert_eq!(accepted.value.to_string(), default, "{}", def.name);
        }
        assert!(def.help.ends_with('.'), "{}", def.name);
    }
}

#[test]
fn refusals_are_worded_as_kafka_words_them() {
    let cases = [
        ("foo", "1", "Unknown topic config name: foo"),
        (
            "retention.ms",
            "abc",
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        (
            "segment.bytes",
            "100",
            "Invalid value 100 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            "segment.bytes",
            "99999999999",
            "Invalid value 99999999999 for configuration segment.bytes: Not a number of type INT",
        ),
        (
            "cleanup.policy",
            "foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            "preallocate",
            "yes",
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            "min.cleanable.dirty.ratio",
            "2",
            "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "leader.replication.throttled.replicas",
            "x",
            "Invalid value [x] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            "retention.ms",
            "1_000",
            "Invalid value 1_000 for configuration retention.ms: Not a number of type LONG",
        ),
        ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        ("max.message.bytes", " 17 ", "accepted"),
        ("preallocate", "TRUE", "accepted"),
        ("retention.bytes", "-5", "accepted"),
        ("leader.replication.throttled.replicas", "0:1,1:2", "accepted"),
        ("leader.replication.throttled.replicas", "*", "accepted"),
        ("cleanup.policy", "", "accepted"),
    ];
    for (name, value, expected) in cases {
        assert_eq!(refusal(name, value), expected, "{name}={value}");
    }
}

#[test]
fn a_promise_that_would_not_be_kept_is_refused_with_the_way_out() {
    assert_eq!(
        refusal("cleanup.policy", "compact"),
        "cleanup.policy=compact is refused: logs are not compacted yet; use cleanup.policy=delete, with \
         retention.ms=-1 to keep every record"
    );
    assert!(refusal("cleanup.policy", "compact,delete").contains("is refused"));
    assert!(refusal("compression.type", "zstd").contains("set compression.type in the producer"));
    assert!(refusal("remote.storage.enable", "true").contains("no tiered storage yet"));
    assert_eq!(refusal("remote.storage.enable", "FALSE"), "accepted");
    let compact = values(&[("cleanup.policy", "compact")]);
    assert_eq!(validate_topic(&compact, Audience::Internal), Ok(vec![]));
}

#[test]
fn a_key_without_meaning_is_accepted_with_a_warning() {
    let warnings = validate_topic(&values(&[("delete.retention.ms", "7")]), Audience::User);
    assert_eq!(warnings.map(|w| w.len()), Ok(1));
}

#[test]
fn lists_grow_and_shrink_and_other_types_do_not() {
    let change = |name, op, value| Change { name, op, value: Some(value) };
    let none = Values::new();
    let audience = Audience::Internal;
    let appended = alter_topic(&none, &[change("cleanup.policy", Op::Append, "compact")], audience).unwrap();
    assert_eq!(appended, values(&[("cleanup.policy", "delete,compact")]));
    let back = alter_topic(&appended, &[change("cleanup.policy", Op::Subtract, "delete")], audience).unwrap();
    assert_eq!(back, values(&[("cleanup.policy", "compact")]));
    let refused = alter_topic(&none, &[change("retention.ms", Op::Append, "1")], audience).unwrap_err();
    assert_eq!(refused.to_string(), "Can't APPEND to key retention.ms because its type is not LIST.");
    let gone = Change { name: "cleanup.policy", op: Op::Delete, value: None };
    assert_eq!(alter_topic(&back, &[gone], audience), Ok(none));
}

#[test]
fn the_first_synonym_that_is_set_gives_the_default_of_a_topic() {
    let mut broker = BrokerLayers::default();
    let topic = Values::new();
    let retention = |broker: &BrokerLayers, topic: &Values| TopicConfig::resolve(topic, broker).retention_ms;
    assert_eq!(retention(&broker, &topic), Some(604_800_000));
    broker.fixed = values(&[("log.retention.hours", "2")]);
    assert_eq!(retention(&broker, &topic), Some(7_200_000));
    broker.fixed.insert("log.retention.minutes".to_owned(), "3".to_owned());
    assert_eq!(retention(&broker, &topic), Some(180_000));
    broker.cluster = values(&[("log.retention.ms", "-1")]);
    assert_eq!(retention(&broker, &topic), None);
    broker.dynamic = values(&[("log.retention.ms", "5")]);
    assert_eq!(retention(&broker, &topic), Some(5));
    assert_eq!(retention(&broker, &values(&[("retention.ms", "9")])), Some(9));
}

#[test]
fn the_nearest_key_is_found_and_nonsense_has_none() {
    let known = || TOPIC.iter().map(|def| def.name);
    assert_eq!(nearest("retention.mss", known()), Some("retention.ms"));
    assert_eq!(nearest("min.in.sync.replicas", known()), Some("min.insync.replicas"));
    assert_eq!(nearest("zzzzzzzzzzzzzzz", known()), None);
}
