//! What a topic can be called. The rules and the sentences are Kafka's. Who creates topics asks, and so does who finds directories
//! that may be partitions.

use crate::limits;

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
