//! How long acknowledgements stopped, as each writer saw it for each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::crash::ledger::Ack;
use crate::crash::load::Acks;

/// The time of day in microseconds, as writers note it.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Times of one writer's acknowledgements, by partition.
fn by_partition(acks: &[Ack]) -> BTreeMap<usize, Vec<u64>> {
    let mut times: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for ack in acks.iter().filter(|ack| ack.at > 0) {
        times.entry(ack.partition).or_default().push(ack.at);
    }
    times
}

/// The largest gap that ended after `since`, in milliseconds, of each writer: between two acknowledgements of one of these partitions.
pub fn largest(acks: &Acks, since: u64, of: impl Fn(usize) -> bool) -> BTreeMap<u16, f64> {
    let of = |acks: &[Ack]| {
        let wanted = by_partition(acks).into_iter().filter(|(partition, _)| of(*partition));
        let gaps = wanted.map(|(_, mut times)| {
            times.sort_unstable();
            let pairs = times.windows(2).filter(|pair| pair[1] > since);
            pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
        });
        gaps.max().unwrap_or(0) as f64 / 1000.0
    };
    acks.iter().map(|(writer, acks)| (*writer, of(acks))).collect()
}

/// Partitions of which a writer has had no acknowledgement since then.
pub fn waiting(acks: &Acks, writers: &[u16], partitions: usize, since: u64) -> Vec<(u16, usize)> {
    let mut waiting = Vec::new();
    for writer in writers {
        // They are in the order in which they came.
        let all = acks.get(writer).map(Vec::as_slice).unwrap_or_default();
        let heard: BTreeSet<usize> =
            all.iter().rev().take_while(|ack| ack.at > since).map(|ack| ack.partition).collect();
        waiting.extend((0..partitions).filter(|p| !heard.contains(p)).map(|p| (*writer, p)));
    }
    waiting
}

/// The value below which so many of a hundred lie; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Milliseconds for people: `143 ms`, `12.08 s`.
pub fn said(millis: f64) -> String {
    if millis < 1000.0 { format!("{millis:.0} ms") } else { format!("{:.2} s", millis / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(partition: usize, at: u64) -> Ack {
        Ack { partition, offset: None, number: 0, at }
    }

    #[test]
    fn a_gap_is_of_one_partition_and_ends_after_the_fault() {
        let acks = Acks::from([(0, vec![ack(0, 1_000), ack(0, 90_000), ack(1, 91_000), ack(0, 92_000)])]);
        assert_eq!(largest(&acks, 0, |_| true)[&0], 89.0);
        assert_eq!(largest(&acks, 90_000, |_| true)[&0], 2.0);
        assert_eq!(largest(&acks, 0, |partition| partition == 1)[&0], 0.0);
        assert_eq!(waiting(&acks, &[0, 1], 2, 91_000), [(0, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!([50.0, 99.0, 100.0].map(|p| percentile(&values, p)), [2.0, 4.0, 4.0]);
        assert_eq!(percentile(&[], 50.0), 0.0);
        assert_eq!((said(143.2), said(12_080.0)), ("143 ms".to_owned(), "12.08 s".to_owned()));
    }
}
