//! Whether a change costs processor time: two runs beside each other, or one beside the floor of its machine.
//!
//! Only processor time is judged: the wall clock of a machine that others use says nothing. Where both runs have the floor of
//! their machine, costs are counted in floors, so that a slower machine is not taken for a slower broker.

use anyhow::{Result, bail};

use crate::page::Table;
use crate::results::{FLOOR, Leg, MOLDAU, Results};
use crate::stats::{self, Interval};

/// A change may cost this many times what it cost before.
const COSTLIER: f64 = 1.10;
/// How many times the floor a leg may cost. Each is about half as much again as what was measured when it was written, on
/// a busy machine: twice the cost is above it, noise is not, because even the good end of the interval must be above it.
/// The floor of `W8 64K` has two costs, whatever the broker does: on an idle machine each of its threads runs on the processor
/// of its client and nobody is woken on another (0.07 CPU s/GB where it is 0.2 on a busy one); the bound is for the cheap one.
const BOUNDS: [(&str, f64); 6] =
    [("W1", 3.0), ("W3", 3.1), ("W4 c1", 6.5), ("W4 c32", 3.2), ("W8 1M", 3.0), ("W8 64K", 8.0)];

/// Prints each leg of both runs; an error that names the legs whose cost has grown beyond noise.
pub fn compare(old: &Results, new: &Results) -> Result<()> {
    if !old.machine.is_like(&new.machine) {
        println!("The machines differ; costs are compared in floors of each.\n");
    }
    let mut table = Table::new(&["leg", "in", "old", "new", "new/old (95 %)", ""]);
    let (mut refused, mut compared) = (Vec::new(), 0);
    for leg in new.legs.iter().filter(|leg| leg.unit.starts_with("CPU")) {
        let Some(before) = old.legs.iter().find(|old| old.name == leg.name && old.unit == leg.unit) else {
            continue;
        };
        let Some((unit, before, after)) = costs(before, leg) else { continue };
        let ratio = stats::of_apart(&after, &before);
        let costlier = ratio.low > COSTLIER;
        table.add(vec![
            leg.name.clone(),
            unit,
            format!("{:.3}", stats::median(&before)),
            format!("{:.3}", stats::median(&after)),
            format!("{:.3} ({:.3}–{:.3})", ratio.median, ratio.low, ratio.high),
            word(ratio).to_owned(),
        ]);
        compared += 1;
        if costlier {
            refused.push(format!("{} ({:+.0} %)", leg.name, (ratio.median - 1.0) * 100.0));
        }
    }
    print!("{}", table.text());
    match (compared, refused.is_empty()) {
        (0, _) => bail!("the two runs have no leg in common that counts processor time"),
        (_, true) => Ok(()),
        (_, false) => bail!("more processor time than before, beyond noise: {}", refused.join(", ")),
    }
}

fn word(ratio: Interval) -> &'static str {
    match ratio {
        Interval { low, .. } if low > COSTLIER => "**costlier**",
        Interval { median, .. } if median > COSTLIER => "costlier, or noise",
        Interval { high, .. } if high < 1.0 => "cheaper",
        _ => "",
    }
}

/// The costs of both runs in one unit: floors where both have them, what was measured otherwise.
fn costs(old: &Leg, new: &Leg) -> Option<(String, Vec<f64>, Vec<f64>)> {
    let (before, after) = (old.values(MOLDAU), new.values(MOLDAU));
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let floors = (in_floors(old), in_floors(new));
    Some(match floors {
        (Some(before), Some(after)) => ("floors".to_owned(), before, after),
        _ => (new.unit.clone(), before, after),
    })
}

fn in_floors(leg: &Leg) -> Option<Vec<f64>> {
    let floors = leg.values(FLOOR);
    let ratios: Vec<f64> = leg.values(MOLDAU).iter().zip(&floors).map(|(own, floor)| own / floor).collect();
    (!ratios.is_empty()).then_some(ratios)
}

/// An error that names the legs which cost more than they may beside the floor of the same run.
pub fn check(results: &Results) -> Result<()> {
    let mut table = Table::new(&["leg", "× floor (95 %)", "at most"]);
    let mut above = Vec::new();
    for (name, most) in BOUNDS {
        let Some(leg) = results.legs.iter().find(|leg| leg.name == name) else {
            bail!("the run has no leg {name}")
        };
        let Some(ratio) = leg.ratio(MOLDAU, FLOOR) else {
            bail!("leg {name} was not measured beside the floor")
        };
        table.add(vec![
            name.to_owned(),
            format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high),
            most.to_string(),
        ]);
        if ratio.low > most {
            above.push(format!("{name} ({:.2}, at most {most})", ratio.median));
        }
    }
    print!("{}", table.text());
    if above.is_empty() { Ok(()) } else { bail!("far above the floor of the machine: {}", above.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    fn leg(name: &str, moldau: &[f64], floor: &[f64]) -> Leg {
        let mut leg = Leg::new(name, "produce", "CPU s/GB", None);
        for (side, values) in [(MOLDAU, moldau), (FLOOR, floor)] {
            values.iter().for_each(|value| leg.add(side, Sample::of(*value)));
        }
        leg
    }

    fn results(legs: Vec<Leg>) -> Results {
        Results {
            name: "t".into(),
            command: "t".into(),
            machine: crate::machine::Machine::look(std::path::Path::new("/")),
            programs: Vec::new(),
            method: Vec::new(),
            legs,
            calls: Vec::new(),
            failures: Vec::new(),
            doubts: Vec::new(),
            seconds: 0.0,
        }
    }

    #[test]
    fn a_cost_beyond_noise_is_refused_by_name() {
        let old = results(vec![leg("W1", &[1.0, 1.01, 0.99, 1.0], &[]), leg("W2", &[1.0; 4], &[])]);
        let new = results(vec![leg("W1", &[1.2, 1.21, 1.19, 1.2], &[]), leg("W2", &[1.05; 4], &[])]);
        let why = compare(&old, &new).unwrap_err().to_string();
        assert!(why.contains("W1 (+20 %)") && !why.contains("W2"), "{why}");
        compare(&new, &old).unwrap();
    }

    #[test]
    fn noise_and_a_slower_machine_are_not_refused() {
        let old = results(vec![leg("W1", &[1.0, 1.4, 0.8, 1.1], &[])]);
        let noisy = results(vec![leg("W1", &[1.3, 0.9, 1.6, 1.2], &[])]);
        compare(&old, &noisy).unwrap();
        let fast = results(vec![leg("W1", &[1.0; 4], &[0.5; 4])]);
        let slow = results(vec![leg("W1", &[2.0; 4], &[1.0; 4])]);
        compare(&fast, &slow).unwrap();
    }

    #[test]
    fn twice_the_bound_fails_the_check_and_noise_around_it_does_not() {
        let run = |times: f64| {
            let legs = BOUNDS.iter().map(|(name, most)| {
                let own: Vec<f64> =
                    [0.7, 1.1, 1.0, 0.9, 1.2].iter().map(|noise| noise * most * times).collect();
                leg(name, &own, &[1.0; 5])
            });
            check(&results(legs.collect()))
        };
        run(0.67).unwrap();
        run(1.0).unwrap();
        let why = run(2.0).unwrap_err().to_string();
        assert!(BOUNDS.iter().all(|(name, _)| why.contains(name)), "{why}");
        assert!(check(&results(Vec::new())).is_err());
    }

    #[test]
    fn runs_that_have_nothing_in_common_are_an_error() {
        assert!(compare(&results(Vec::new()), &results(Vec::new())).is_err());
    }
}
