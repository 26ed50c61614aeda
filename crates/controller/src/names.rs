//! Names of topics: what is allowed, what is reserved, what collides. The rules and the sentences are
//! Kafka's.

use moldau_base::limits;

/// The topic of committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of transaction states.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic of share group states (KIP-932).
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The metadata log itself; it is no topic that anybody can create.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// True for topics that only brokers write.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// Why no topic can have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing at all.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`, which are directories.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// More than 249 characters.
    #[error("Topic name is invalid: the length of '{0}' is longer than the max allowed length {max}", max = limits::TOPIC_NAME_BYTES)]
    TooLong(String),
    /// Something that is not a letter, digit, `.`, `_` or `-`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Checks that a topic can have this name.
pub fn check(name: &str) -> Result<(), BadName> {
    match name {
        "" => Err(BadName::Empty),
        "." | ".." => Err(BadName::Dots(name.to_owned())),
        _ if name.chars().count() > limits::TOPIC_NAME_BYTES => Err(BadName::TooLong(name.to_owned())),
        _ if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            Err(BadName::Characters(name.to_owned()))
        }
        _ => Ok(()),
    }
}

/// True when the name holds a character that metric names fold.
pub fn has_collision_chars(name: &str) -> bool {
    name.contains(['.', '_'])
}

/// The name with `.` and `_` made the same.
pub fn fold(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules() {
        for good in ["a", "orders.eu-1_x", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(".."), Err(BadName::Dots("..".into())));
        assert!(matches!(check(&"x".repeat(250)), Err(BadName::TooLong(_))));
        for bad in ["../etc", "a b", "ä", "a/b", "a\0"] {
            assert!(matches!(check(bad), Err(BadName::Characters(_))), "{bad}");
        }
    }
}
