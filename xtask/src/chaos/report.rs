//! What a person sees of `cargo xtask chaos`: a line per fault, and a table of the kinds at the end, of 100 columns at most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::{KINDS, Kind};
use crate::cluster::gaps::{percentile, said};

/// A fault that was done, and how long acknowledgements stopped.
pub struct Done {
    /// Its kind.
    pub kind: &'static str,
    /// The largest gap of each writer, by its family, in milliseconds.
    pub gaps: BTreeMap<String, f64>,
    /// That of clients that came in meanwhile.
    pub fresh: f64,
}

impl Done {
    /// The largest gap of all, and whose it was.
    pub fn largest(&self) -> (f64, &str) {
        let largest = self.gaps.iter().max_by(|a, b| a.1.total_cmp(b.1));
        largest.map_or((0.0, ""), |(family, gap)| (*gap, family))
    }
}

/// The line of one fault.
pub fn line(at: Duration, done: &Done, what: &str, acked: u64) {
    let (gap, family) = done.largest();
    let (seconds, gap, fresh) = (at.as_secs_f64(), said(gap), said(done.fresh));
    println!(
        "{seconds:>7.1} s  {:<10} {what:<44} gap {gap:>8} ({family}), {fresh} for who came in, {acked} acknowledged",
        done.kind
    );
}

/// The table of all faults.
pub fn table(all: &[Done], wanted: &[&Kind]) {
    let families: Vec<&String> = all.first().map(|done| done.gaps.keys().collect()).unwrap_or_default();
    print!("\n{:<10} {:>6} {:>10} {:>10}", "fault", "times", "gap p50", "gap max");
    families.iter().for_each(|family| print!(" {family:>10}"));
    println!(" {:>10}", "came in");
    for kind in KINDS.iter().filter(|kind| wanted.iter().any(|wanted| wanted.name == kind.name)) {
        let of: Vec<&Done> = all.iter().filter(|done| done.kind == kind.name).collect();
        let gaps: Vec<f64> = of.iter().map(|done| done.largest().0).collect();
        print!("{:<10} {:>6}", kind.name, of.len());
        if of.is_empty() {
            println!();
            continue;
        }
        print!(" {:>10} {:>10}", said(percentile(&gaps, 50.0)), said(percentile(&gaps, 100.0)));
        for family in &families {
            let own: Vec<f64> = of.iter().filter_map(|done| done.gaps.get(*family)).copied().collect();
            print!(" {:>10}", said(percentile(&own, 100.0)));
        }
        let fresh: Vec<f64> = of.iter().map(|done| done.fresh).collect();
        println!(" {:>10}", said(percentile(&fresh, 100.0)));
    }
    println!(
        "Gaps are between acknowledgements of one partition to one writer; the right columns are each family's largest, and the last that \
         of clients of which three begin each 100 ms."
    );
}
