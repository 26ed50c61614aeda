//! The metadata quorum: an adapter around openraft
