//! Whose turn it is: the target that has had the least comes next, until all have their share.
//!
//! One that found something, or ended by itself, has no further turn: it would find the same again.

/// Less is not worth a start.
const LEAST_SECONDS: f64 = 1.0;

/// A target and what it has had.
struct Share {
    target: String,
    seconds: f64,
    running: bool,
    broken: bool,
}

/// The shares of all targets.
pub struct Turns {
    shares: Vec<Share>,
    /// Of the processor, for each target.
    goal: f64,
    /// Of the processor, for each turn.
    turn: f64,
}

impl Turns {
    /// One turn of so many minutes for each.
    pub fn once(targets: &[String], minutes: f64) -> Turns {
        Turns::up_to(minutes, minutes, targets.iter().map(|target| (target.clone(), 0.0)).collect())
    }

    /// Turns of `turn` minutes until each has `goal`; given is what each has had.
    pub fn up_to(goal: f64, turn: f64, had: Vec<(String, f64)>) -> Turns {
        let share =
            |(target, minutes)| Share { target, seconds: minutes * 60.0, running: false, broken: false };
        Turns {
            shares: had.into_iter().map(share).collect(),
            goal: goal * 60.0,
            turn: (turn * 60.0).max(LEAST_SECONDS),
        }
    }

    /// The next target and the seconds of its turn.
    pub fn begin(&mut self) -> Option<(String, f64)> {
        let (goal, turn) = (self.goal, self.turn);
        let waiting =
            |share: &&mut Share| !share.running && !share.broken && share.seconds + LEAST_SECONDS <= goal;
        let waiting = self.shares.iter_mut().filter(waiting);
        let share = waiting.min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
        share.running = true;
        Some((share.target.clone(), turn.min(goal - share.seconds)))
    }

    /// The turn of a target is over; whether it may have another.
    pub fn end(&mut self, target: &str, seconds: f64, broken: bool) {
        if let Some(share) = self.shares.iter_mut().find(|share| share.target == target) {
            share.seconds += seconds;
            share.running = false;
            share.broken = broken;
        }
    }

    /// The targets that have no further turn.
    pub fn broken(&self) -> Vec<&str> {
        self.shares.iter().filter(|share| share.broken).map(|share| share.target.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_had_the_least_comes_next_until_all_have_their_share() {
        let had = vec![("a".into(), 2.5), ("b".into(), 0.0), ("c".into(), 9.0), ("d".into(), 0.5)];
        let mut turns = Turns::up_to(3.0, 2.0, had);
        assert_eq!(turns.begin(), Some(("b".into(), 120.0)));
        assert_eq!(turns.begin(), Some(("d".into(), 120.0)));
        turns.end("b", 120.0, false);
        assert_eq!(turns.begin(), Some(("b".into(), 60.0)));
        turns.end("d", 7.0, true);
        assert_eq!(turns.begin(), Some(("a".into(), 30.0)));
        turns.end("a", 29.5, false);
        turns.end("b", 61.0, false);
        assert_eq!((turns.begin(), turns.broken()), (None, vec!["d"]));
    }

    #[test]
    fn once_is_one_turn_for_each() {
        let mut turns = Turns::once(&["a".into(), "b".into()], 1.0);
        assert_eq!(turns.begin(), Some(("a".into(), 60.0)));
        turns.end("a", 60.0, false);
        assert_eq!(turns.begin(), Some(("b".into(), 60.0)));
        assert_eq!(turns.begin(), None);
    }
}
