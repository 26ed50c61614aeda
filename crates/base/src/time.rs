//! Time as a value. Cores are told the time with each input and answer with deadlines; nobody below the
//! hosts reads a clock.

use std::ops::Add;
use std::time::Duration;

/// Monotonic time: nanoseconds since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `ms` milliseconds later; negative counts as zero.
    pub fn after_ms(self, ms: i64) -> Mono {
        let ms = u64::try_from(ms).unwrap_or(0);
        Mono(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The moment of an input: the wall clock for what is written down, the monotonic clock for waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch; may jump in either direction.
    pub wall_ms: i64,
    /// Never goes back within one run of a host.
    pub mono: Mono,
}

impl Now {
    /// The moment `ms` milliseconds later on both clocks.
    pub fn after_ms(self, ms: i64) -> Now {
        Now { wall_ms: self.wall_ms.saturating_add(ms), mono: self.mono.after_ms(ms) }
    }
}
