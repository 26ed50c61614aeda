//! Medians, and how far they may be trusted: bootstrap intervals (Efron 1979), made with a fixed seed so that the same
//! samples always give the same page.

use moldau_base::Rng;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 4000;
/// The part of the resamples that lies below an interval, and above it: 95 % are inside.
const TAIL: f64 = 0.025;

/// A median and the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The median of the samples.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The middle value; the mean of the two in the middle where their number is even. 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median of `values` with its interval.
pub fn of(values: &[f64]) -> Interval {
    bootstrap(median(values), |rng| median(&resample(values, rng)))
}

/// The median of the ratios of what was measured in pairs, side by side; what has no partner is left out.
pub fn of_pairs(above: &[f64], below: &[f64]) -> Interval {
    let ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
    of(&ratios)
}

/// The ratio of the medians of what was measured apart.
pub fn of_apart(above: &[f64], below: &[f64]) -> Interval {
    bootstrap(median(above) / median(below), |rng| {
        median(&resample(above, rng)) / median(&resample(below, rng))
    })
}

fn bootstrap(found: f64, mut again: impl FnMut(&mut Rng) -> f64) -> Interval {
    let mut rng = Rng::seeded(1);
    let mut all: Vec<f64> = (0..RESAMPLES).map(|_| again(&mut rng)).collect();
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all[((RESAMPLES - 1) as f64 * part).round() as usize];
    Interval { median: found, low: at(TAIL), high: at(1.0 - TAIL) }
}

fn resample(values: &[f64], rng: &mut Rng) -> Vec<f64> {
    (0..values.len()).filter_map(|_| rng.pick(values).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn the_interval_of_equal_samples_is_a_point_and_grows_with_their_spread() {
        assert_eq!(of(&[2.0; 5]), Interval { median: 2.0, low: 2.0, high: 2.0 });
        let narrow = of(&[0.9, 1.0, 1.1, 1.0, 1.0, 1.0]);
        let wide = of(&[0.5, 1.0, 1.5, 1.0, 0.7, 1.3]);
        assert!(narrow.low >= 0.9 && narrow.high <= 1.1 && narrow.median == 1.0);
        assert!(wide.low < narrow.low && wide.high > narrow.high);
    }

    #[test]
    fn pairs_cancel_what_both_sides_met_and_apart_does_not() {
        let (slow, fast) = ([4.0, 8.0, 12.0, 16.0], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of_pairs(&slow, &fast), Interval { median: 4.0, low: 4.0, high: 4.0 });
        let apart = of_apart(&slow, &fast);
        assert!(apart.low < 4.0 && apart.high > 4.0);
    }
}
