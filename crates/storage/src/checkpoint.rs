//! The small text files: offset checkpoints of a log directory and whose offsets these are, the epoch checkpoint and `partition.metadata` of a
//! partition, the clean-shutdown marker. Formats are Kafka's: a version line, a count, one entry a line.
//!
//! Parsers never panic and keep no more than the file's length; a file that is not understood is an error that names the line.

use std::fmt::{self, Write as _};

use moldau_base::Uuid;

use crate::names::{LogDirEntry, log_dir_entry};

/// A text file that is not in its format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// Bytes that are not UTF-8.
    #[error("not text")]
    NotText,
    /// A version this program does not know.
    #[error("version {0:?} where 0 is needed")]
    Version(String),
    /// A line that is not understood; lines count from 1.
    #[error("line {line}: {text:?}")]
    Line {
        /// Which line.
        line: usize,
        /// At most 80 characters of it.
        text: String,
    },
    /// The count does not match the entries.
    #[error("{found} entries where {expected} are announced")]
    Count {
        /// By the second line.
        expected: u64,
        /// In the file.
        found: usize,
    },
}

fn bad(line: usize, text: &str) -> BadText {
    BadText::Line { line, text: text.chars().take(80).collect() }
}

/// Splits a checkpoint of version 0 into its entries, each with its line number.
fn entries(data: &[u8]) -> Result<Vec<(usize, &str)>, BadText> {
    let text = std::str::from_utf8(data).map_err(|_| BadText::NotText)?;
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    match lines.next() {
        Some((_, "0")) => {}
        other => return Err(BadText::Version(other.map_or("", |(_, l)| l).chars().take(80).collect())),
    }
    let (line, count) = lines.next().ok_or_else(|| bad(2, ""))?;
    let expected: u64 = count.trim().parse().map_err(|_| bad(line, count))?;
    let rest: Vec<_> = lines.filter(|(_, text)| !text.trim().is_empty()).collect();
    if rest.len() as u64 != expected {
        return Err(BadText::Count { expected, found: rest.len() });
    }
    Ok(rest)
}

/// The text of an offset checkpoint. `offsets` are directory names (`orders-3`) with an offset; a name that is no
/// partition's is left out.
pub fn encode_offsets<'a>(offsets: impl IntoIterator<Item = (&'a str, i64)>) -> Vec<u8> {
    encode_by_partition(offsets)
}

/// The text of a topic id checkpoint, which says whose the offsets of an offset checkpoint are. Of a log whose topic nobody knows it
/// says so, with the id of no topic: its offsets are then those of the log that has the name.
pub fn encode_topic_ids<'a>(topics: impl IntoIterator<Item = (&'a str, Option<Uuid>)>) -> Vec<u8> {
    encode_by_partition(topics.into_iter().map(|(name, topic)| (name, topic.unwrap_or(Uuid::ZERO))))
}

fn encode_by_partition<'a, V: fmt::Display>(values: impl IntoIterator<Item = (&'a str, V)>) -> Vec<u8> {
    let mut lines = String::new();
    let mut count = 0;
    for (name, value) in values {
        if let LogDirEntry::Partition { topic, partition } = log_dir_entry(name) {
            count += 1;
            let _ = writeln!(lines, "{topic} {partition} {value}");
        }
    }
    format!("0\n{count}\n{lines}").into_bytes()
}

/// Reads an offset checkpoint: directory names and offsets, in the order of the file.
pub fn parse_offsets(data: &[u8]) -> Result<Vec<(String, i64)>, BadText> {
    parse_by_partition(data, |offset| offset.parse::<i64>().ok().filter(|offset| *offset >= 0))
}

/// Reads a topic id checkpoint: directory names and the ids of their topics, in the order of the file.
pub fn parse_topic_ids(data: &[u8]) -> Result<Vec<(String, Uuid)>, BadText> {
    parse_by_partition(data, |id| id.parse().ok())
}

fn parse_by_partition<V>(
    data: &[u8],
    value: impl Fn(&str) -> Option<V>,
) -> Result<Vec<(String, V)>, BadText> {
    let parse = |text: &str| {
        let mut words = text.split_whitespace();
        let (topic, partition, last) = (words.next()?, words.next()?, words.next()?);
        let (partition, value) = (partition.parse::<i32>().ok()?, value(last)?);
        let valid = words.next().is_none() && partition >= 0;
        valid.then(|| (crate::names::partition_dir(topic, partition), value))
    };
    entries(data)?.into_iter().map(|(line, text)| parse(text).ok_or_else(|| bad(line, text))).collect()
}

/// The text of a leader epoch checkpoint.
pub fn encode_epochs(epochs: &[(i32, i64)]) -> Vec<u8> {
    let mut text = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        let _ = writeln!(text, "{epoch} {start}");
    }
    text.into_bytes()
}

/// Reads a leader epoch checkpoint: epochs and their start offsets, in the order of the file.
pub fn parse_epochs(data: &[u8]) -> Result<Vec<(i32, i64)>, BadText> {
    let parse = |text: &str| {
        let mut words = text.split_whitespace();
        let (epoch, start) = (words.next()?.parse::<i32>().ok()?, words.next()?.parse::<i64>().ok()?);
        (words.next().is_none() && epoch >= 0 && start >= 0).then_some((epoch, start))
    };
    entries(data)?.into_iter().map(|(line, text)| parse(text).ok_or_else(|| bad(line, text))).collect()
}

/// The text of `partition.metadata`.
pub fn encode_metadata(topic: Uuid) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic}").into_bytes()
}

/// Reads `partition.metadata`.
pub fn parse_metadata(data: &[u8]) -> Result<Uuid, BadText> {
    let text = std::str::from_utf8(data).map_err(|_| BadText::NotText)?;
    let (mut version, mut topic) = (None, None);
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("version", value)) => version = Some(value),
            Some(("topic_id", value)) => topic = Some(value.parse().map_err(|_| bad(i + 1, line))?),
            _ => return Err(bad(i + 1, line)),
        }
    }
    match (version, topic) {
        (Some("0"), Some(topic)) => Ok(topic),
        (Some("0"), None) => Err(bad(2, "")),
        (other, _) => Err(BadText::Version(other.unwrap_or("").chars().take(80).collect())),
    }
}

/// The content of the clean-shutdown marker (KIP-966 adds the broker epoch).
pub fn encode_clean_shutdown(broker_epoch: i64) -> Vec<u8> {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").into_bytes()
}

/// The broker epoch in the marker; none in one that does not say it, or that cannot be read.
pub(crate) fn parse_clean_shutdown(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let fields = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let value = |name: &str| {
        let mut pairs = fields.split(',').filter_map(|field| field.split_once(':'));
        let (_, value) = pairs.find(|(key, _)| key.trim().trim_matches('"') == name)?;
        value.trim().parse::<i64>().ok()
    };
    value("version").filter(|version| *version == 0)?;
    value("brokerEpoch").filter(|epoch| *epoch >= 0)
}

/// The text of a boot checkpoint: in this boot of the machine the broker ran that is registered with this epoch.
pub fn encode_boot(boot: Uuid, broker_epoch: i64) -> Vec<u8> {
    format!("version: 0\nboot_id: {boot}\nbroker_epoch: {broker_epoch}\n").into_bytes()
}

/// The boot and the broker epoch in a boot checkpoint; none in one that does not say both, or that cannot be read.
pub(crate) fn parse_boot(text: &[u8]) -> Option<(Uuid, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let value = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    value("version").filter(|version| *version == "0")?;
    let boot = value("boot_id")?.parse().ok().filter(|boot: &Uuid| !boot.is_zero())?;
    let epoch = value("broker_epoch")?.parse().ok().filter(|epoch: &i64| *epoch >= 0)?;
    Some((boot, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_are_kafkas_text() {
        let text = encode_offsets([("orders-3", 17), ("a-b-0", 0), ("no partition", 4)]);
        assert_eq!(text, b"0\n2\norders 3 17\na-b 0 0\n");
        assert_eq!(parse_offsets(&text), Ok(vec![("orders-3".into(), 17), ("a-b-0".into(), 0)]));
    }

    #[test]
    fn topic_ids_read_back() {
        let text = encode_topic_ids([
            ("orders-3", Some(Uuid::METADATA_TOPIC)),
            ("no partition", Some(Uuid([1; 16]))),
        ]);
        assert_eq!(text, b"0\n1\norders 3 AAAAAAAAAAAAAAAAAAAAAQ\n");
        assert_eq!(parse_topic_ids(&text), Ok(vec![("orders-3".into(), Uuid::METADATA_TOPIC)]));
        assert_eq!(parse_topic_ids(b"0\n1\na 0 17\n"), Err(bad(3, "a 0 17")));
    }

    #[test]
    fn boots_read_back() {
        let boot = Uuid([9; 16]);
        assert_eq!(parse_boot(&encode_boot(boot, 17)), Some((boot, 17)));
        let whole = String::from_utf8(encode_boot(boot, 17)).expect("text");
        for bad in [
            "".to_owned(),
            whole.replace("version: 0", "version: 1"),
            whole.replace(": 17", ": -1"),
            whole.replace(": 17", ": many"),
            whole.replace("boot_id", "boot"),
            format!("version: 0\nboot_id: {}\nbroker_epoch: 1\n", Uuid::ZERO),
            whole[..whole.len() / 2].to_owned(),
        ] {
            assert_eq!(parse_boot(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_boot(&[0xff; 40]), None);
    }

    #[test]
    fn a_clean_stop_tells_its_epoch() {
        assert_eq!(parse_clean_shutdown(&encode_clean_shutdown(17)), Some(17));
        assert_eq!(parse_clean_shutdown(b"{ \"brokerEpoch\" : 3, \"version\" : 0 }\n"), Some(3));
        for bad in [
            "",
            "{}",
            "{\"version\":1,\"brokerEpoch\":3}",
            "{\"version\":0,\"brokerEpoch\":-1}",
            "{\"version\":0",
        ] {
            assert_eq!(parse_clean_shutdown(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        assert_eq!(parse_offsets(b""), Err(BadText::Version(String::new())));
        assert_eq!(parse_offsets(b"1\n0\n"), Err(BadText::Version("1".into())));
        assert_eq!(parse_offsets(b"0\n2\na 0 0\n"), Err(BadText::Count { expected: 2, found: 1 }));
        assert_eq!(parse_offsets(b"0\n1\na 0 -5\n"), Err(bad(3, "a 0 -5")));
        assert_eq!(parse_epochs(b"0\n1\n1 x\n"), Err(bad(3, "1 x")));
        assert_eq!(parse_epochs(b"\xff"), Err(BadText::NotText));
        assert!(parse_metadata(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ").is_err());
        assert!(parse_metadata(b"version: 0\ntopic_id: x").is_err());
    }

    #[test]
    fn metadata_is_kafkas_text() {
        let text = encode_metadata(Uuid::METADATA_TOPIC);
        assert_eq!(text, b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(parse_metadata(&text), Ok(Uuid::METADATA_TOPIC));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_offsets(&bytes), parse_epochs(&bytes), parse_metadata(&bytes), parse_topic_ids(&bytes));
        }

        #[test]
        fn epochs_read_back(epochs in prop::collection::vec((0..i32::MAX, 0..i64::MAX), 0..20)) {
            prop_assert_eq!(parse_epochs(&encode_epochs(&epochs)), Ok(epochs));
        }
    }
}
