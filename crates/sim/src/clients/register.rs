//! What a value may be that one client alone writes and asks for, through connections that end in the middle: the last one that
//! was acknowledged or told, or one whose fate is not known.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// The value, and the writes without an answer: each may take effect at any later time.
#[derive(Debug, Default)]
pub struct Register<T> {
    now: T,
    open: BTreeMap<T, u32>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is acknowledged.
    Done,
    /// It was refused by name and has not happened.
    NotDone,
    /// Nobody knows.
    Unknown,
}

impl<T: Ord + Clone + Debug> Register<T> {
    /// Holds `now`.
    pub fn new(now: T) -> Register<T> {
        Register { now, open: BTreeMap::new() }
    }

    /// A write is asked for. It stays open unless its answer [settles](Register::settle) it.
    pub fn write(&mut self, value: &T) {
        *self.open.entry(value.clone()).or_default() += 1;
    }

    /// The answer to a write has come.
    pub fn settle(&mut self, value: &T, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            return;
        }
        if let Some(count) = self.open.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(value);
            }
        }
        if outcome == Outcome::Done {
            self.now = value.clone();
        }
    }

    /// The broker has told the value; what is wrong with it, in words.
    pub fn told(&mut self, value: T) -> Result<(), String> {
        if value != self.now && !self.open.contains_key(&value) {
            let open: Vec<&T> = self.open.keys().collect();
            return Err(format!("it is {value:?}, and must be {:?} or one of {open:?}", self.now));
        }
        self.now = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_right() {
        let mut register = Register::new(0);
        register.write(&1);
        register.settle(&1, Outcome::Done);
        assert!(register.told(0).is_err());
        assert_eq!(register.told(1), Ok(()));
        register.write(&2);
        assert_eq!(register.told(1), Ok(()), "it may come later");
        assert_eq!(register.told(2), Ok(()));
        assert!(register.told(1).is_err(), "what was overwritten does not come back");
        register.write(&3);
        register.settle(&3, Outcome::NotDone);
        assert!(register.told(3).is_err());
    }
}
