//! Consumer groups: classic protocol and offsets
