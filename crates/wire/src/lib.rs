//! The Kafka protocol: generated messages, framing, error codes, versions
