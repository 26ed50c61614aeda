//! A small async Kafka client for the CLI, benches and tests
