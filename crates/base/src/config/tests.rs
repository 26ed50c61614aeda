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
        ("leader.replication.throttled.replicas", "", "accepted"),
        ("cleanup.policy", "", "accepted"),
        (
            "follower.replication.throttled.replicas",
            "0:1,1",
            "Invalid value [0:1, 1] for configuration follower.replication.throttled.replicas: \
             follower.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        ("follower.replication.throttled.replicas", "0:1,1:2", "accepted"),
        ("follower.replication.throttled.replicas", "*", "accepted"),
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

#[test]
fn broker_keys_are_sorted_known_once_and_their_defaults_good() {
    let mut seen = std::collections::BTreeSet::new();
    for (group, keys) in BROKER {
        assert!(keys.is_sorted_by(|a, b| a.name < b.name), "{group:?}");
    }
    for def in broker_keys() {
        assert!(seen.insert(def.name), "{} twice", def.name);
        assert!(def.help.ends_with('.') && def.help.len() > 10, "{}", def.name);
        if let Some(default) = def.default {
            def.accept(default).unwrap_or_else(|e| panic!("{}: {e}", def.name));
        }
    }
    assert!(seen.len() > 290, "{}", seen.len());
}

#[test]
fn a_topic_key_and_the_broker_keys_behind_it_agree_on_default_and_bounds() {
    for def in TOPIC {
        let Some((last, factor)) = def.synonyms.last() else { continue };
        let broker = broker_key(last).unwrap_or_else(|| panic!("{} of {} is no broker key", last, def.name));
        let scaled =
            broker.default.map(|d| d.parse::<i64>().map_or(d.to_owned(), |n| (n * factor).to_string()));
        assert_eq!(scaled.as_deref(), def.default, "{} and {last}", def.name);
        for (name, _) in def.synonyms {
            assert!(broker_key(name).is_some(), "{name} of {} is no broker key", def.name);
        }
        if def.synonyms.len() == 1 {
            assert_eq!(broker.bounds, def.bounds, "{} and {last}", def.name);
        }
    }
}

#[test]
fn describe_shows_the_ladder_and_hides_secrets() {
    let broker = BrokerLayers {
        dynamic: values(&[("log.retention.ms", "500000")]),
        cluster: values(&[("log.retention.ms", "600000")]),
        fixed: values(&[
            ("log.retention.minutes", "5000"),
            ("log.retention.hours", "100"),
            ("ssl.key.password", "secret"),
        ]),
        derived: values(&[("node.id", "7")]),
    };
    let topic = describe_topic(&values(&[("retention.ms", "1000")]), &broker);
    let retention = topic.iter().find(|d| d.def.name == "retention.ms").unwrap();
    let ladder: Vec<String> = retention
        .synonyms
        .iter()
        .map(|s| format!("{}={}@{}", s.name, s.value.as_deref().unwrap_or("null"), s.source.wire()))
        .collect();
    assert_eq!(
        ladder.join(" "),
        "retention.ms=1000@1 log.retention.ms=500000@2 log.retention.ms=600000@3 log.retention.minutes=5000@4 \
         log.retention.hours=100@4 log.retention.hours=168@5"
    );
    let all = describe_broker(&broker);
    let of = |name: &str| all.iter().find(|d| d.def.name == name).unwrap();
    assert_eq!(of("ssl.key.password").value, None);
    assert!(of("ssl.key.password").sensitive);
    assert_eq!((of("node.id").value.as_deref(), of("node.id").source), (Some("7"), Source::Default));
    assert_eq!(describe_cluster(&broker).len(), 1);
}

#[test]
fn only_dynamic_keys_change_while_the_broker_runs() {
    let none = Values::new();
    let set = |name, value| [Change { name, op: Op::Set, value: Some(value) }];
    let refusal = |name, value| alter_broker(&none, &set(name, value)).unwrap_err().to_string();
    assert_eq!(refusal("node.id", "7"), "Cannot update these configs dynamically: [node.id]");
    assert_eq!(
        refusal("message.max.bytes", "-1"),
        "Invalid value -1 for configuration message.max.bytes: Value must be at least 0"
    );
    assert_eq!(refusal("foo.bar", "1"), "Unknown broker config name: foo.bar");
    assert!(alter_broker(&none, &set("log.retention.ms", "5")).is_ok());
}

proptest::proptest! {
    #[test]
    fn an_accepted_value_reads_back_and_no_text_is_too_strange(text in "\\PC{0,30}|-?[0-9]{1,20}|[a-z]+(,[a-z*0-9:]+){0,3}") {
        for def in TOPIC.iter().chain(broker_keys()) {
            if let Ok(accepted) = def.accept(&text) {
                proptest::prop_assert_eq!(def.read(&accepted.value.to_string()), Ok(accepted.value));
            }
        }
    }
}

#[test]
fn throttled_replicas_are_named_by_partition_and_broker() {
    let resolved = |value: &str| {
        let topic = values(&[("leader.replication.throttled.replicas", value)]);
        TopicConfig::resolve(&topic, &BrokerLayers::default()).throttled_leaders
    };
    let has = |value: &str, partition, broker| {
        resolved(value).has(crate::PartitionIndex(partition), crate::NodeId(broker))
    };
    assert!(has("2:7,0:1", 0, 1) && has("2:7,0:1", 2, 7));
    assert!(!has("2:7,0:1", 0, 7) && !has("2:7,0:1", 2, 1));
    assert!(has("*", 5, 5));
    assert!(!has("", 0, 1));
    assert_eq!(resolved(""), ThrottledReplicas::None);
}
