//! Why a target was missed: what the run itself shows, and what profiles have shown before (docs/benchmarks/where-the-time-goes.md).
//! It never says why a target was met, and nothing that one run cannot bear out: where figures differ, the figures are right.

use std::fmt::Write as _;

use crate::results::{FLOOR, KAFKA, Leg, Verdict};

/// By the first words of a leg's name.
const KNOWN: [(&str, &str); 7] = [
    (
        "W4",
        "Each request is received, appended and answered with one call each. Of the time, sending the answer with the receiver's half of TCP \
         has a third, being preempted by the client that it wakes a sixth, our own code three tenths, of which no part has more than 4 %. \
         The floor does not append.",
    ),
    (
        "W7",
        "The delay of the load generator itself is in both sides' figures (the row `late`), and no broker is quicker than it: producer, broker \
         and consumer are woken in turn, four times for each record, on processors that they share with the rest of the machine. \
         The further out in the tail, the more of it is that, on both sides alike.",
    ),
    (
        "W8 1M",
        "Nine tenths of the time are one `sendfile`, and most of that is the receiver's half of TCP and waking it. Four looks whether the \
         data is in memory have 3 %. Finding the pages has a sixth: a file that was appended to by 16 KiB \
         is cached in pieces as small, the floor's in pieces of 1 MiB.",
    ),
    (
        "W8 64K",
        "Half of the time is `sendfile`, a quarter waking the receiver and being preempted by it, a fifth our own code. On a machine that is \
         otherwise idle nearly half goes into waking the receiver on another processor and to sleep after it, which the floor, with a thread \
         for each connection, is spared.",
    ),
    (
        "recovery cold",
        "Cold and cached do the same work; what cold adds is reading from the disk what a crash may have torn.",
    ),
    (
        "W9",
        "What a reader of a gigabyte a second adds is far above a tail that takes half a millisecond by itself. Where it comes from is not known: \
         traced for six seconds, all of 6,000 looks at the tail's files found them in memory, and of 38,000 \
         calls of the broker's thread 20 took over a millisecond, none over five.",
    ),
    (
        "W22",
        "What is stored is bounded by the disk as soon as the system holds back who writes, and then both loads get what the disk gives at that \
         moment. What overload costs beyond that is memory: bytes of 24 connections in turn do not stay in the processor's caches between \
         receiving, checksum and writing as those of two do.",
    ),
];

/// A line for each missed target about which something can be said.
pub fn reasons(legs: &[Leg]) -> String {
    let mut text = String::new();
    for leg in legs.iter().filter(|leg| leg.verdict() == Some(Verdict::Missed)) {
        let known =
            KNOWN.iter().find(|(name, _)| leg.name.starts_with(name)).map(|(_, why)| (*why).to_owned());
        let why: Vec<String> = [below_the_floor(leg), known].into_iter().flatten().collect();
        if !why.is_empty() {
            let _ = writeln!(text, "- **{}.** {}", leg.name, why.join(" "));
        }
    }
    text
}

/// A target that what cannot be avoided does not reach either.
fn below_the_floor(leg: &Leg) -> Option<String> {
    let (most, floor) = (leg.target?.of_kafka?, leg.ratio(FLOOR, KAFKA)?);
    (floor.median > most).then(|| {
        format!(
            "The floor of the machine alone takes {:.2} of what Kafka takes, which is more than is aimed at.",
            floor.median
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{MOLDAU, Sample, Target};

    fn leg(name: &str, moldau: f64, floor: f64) -> Leg {
        let mut leg = Leg::new(name, "produce", "s/GB", Some(Target { of_kafka: Some(0.25), at_most: None }));
        for (side, value) in [(MOLDAU, moldau), (FLOOR, floor), (KAFKA, 1.0)] {
            leg.add(side, Sample::of(value));
        }
        leg
    }

    #[test]
    fn only_what_was_missed_has_reasons() {
        assert_eq!(reasons(&[leg("W2", 0.2, 0.1), leg("W4 c1", 0.25, 0.2), leg("W3", 0.3, 0.1)]), "");
        let text = reasons(&[leg("W2", 0.5, 0.4), leg("W4 c32", 0.4, 0.24)]);
        assert!(text.starts_with("- **W2.** The floor of the machine alone takes 0.40 of"), "{text}");
        assert!(text.contains("\n- **W4 c32.** Each request is received"), "{text}");
    }
}
