//! 128-bit ids of topics, clusters and directories, in Kafka's spelling: URL-safe base64 without padding,
//! 22 characters.

use std::fmt;
use std::str::FromStr;

use crate::Rng;

/// An id of a topic, a cluster, a directory or an incarnation.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// "No id" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// The id of the metadata topic `__cluster_metadata`, fixed by KIP-516.
    pub const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// True for [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// A random id (version 4, as Kafka makes them) that does not begin with a dash, which would look like
    /// an option on a command line.
    pub fn random(rng: &mut Rng) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            rng.fill(&mut bytes);
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            if bytes[0] >> 2 != 62 {
                return Uuid(bytes);
            }
        }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let value = u128::from_be_bytes(self.0);
        for (i, slot) in text.iter_mut().enumerate() {
            let bits = if i < 21 { value >> (128 - 6 * (i + 1)) } else { value << 4 };
            *slot = ALPHABET[(bits & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 22 characters of URL-safe base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 characters of URL-safe base64")]
pub struct BadUuid;

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Uuid, BadUuid> {
        if text.len() != 22 {
            return Err(BadUuid);
        }
        let mut value = 0u128;
        for (i, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|&a| a == byte).ok_or(BadUuid)? as u128;
            value = if i < 21 { value << 6 | digit } else { value << 2 | digit >> 4 };
        }
        Ok(Uuid(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_kafkas() {
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn text_reads_back() {
        let mut rng = Rng::seeded(7);
        for _ in 0..1000 {
            let id = Uuid::random(&mut rng);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(!id.to_string().starts_with('-'));
        }
        assert_eq!("short".parse::<Uuid>(), Err(BadUuid));
        assert_eq!("!!!!!!!!!!!!!!!!!!!!!!".parse::<Uuid>(), Err(BadUuid));
    }
}
