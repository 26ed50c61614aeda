//! Cluster metadata: records, image, decisions
