//! Moments, sleeping, and futures with a time limit.

use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use moldau_base::Mono;

use super::executor::{Core, current};

/// A time of the runtime's clock, which is the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub(crate) Mono);

impl openraft::Instant for Moment {
    fn now() -> Moment {
        Moment(current().now())
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0 + duration)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(Mono(self.0.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))))
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.0.since(earlier.0)
    }
}

/// Waits for a moment.
#[derive(Debug)]
pub struct Sleep {
    until: Mono,
    core: Weak<Core>,
    timer: Option<(Mono, u64)>,
}

impl Sleep {
    pub(super) fn until(until: Mono) -> Sleep {
        Sleep { until, core: Rc::downgrade(&current()), timer: None }
    }

    fn cancel(&mut self) {
        if let (Some(key), Some(core)) = (self.timer.take(), self.core.upgrade()) {
            core.remove_timer(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        let Some(core) = self.core.upgrade() else { return Poll::Pending };
        if core.now() >= self.until {
            return Poll::Ready(());
        }
        self.timer = Some(core.add_timer(self.until, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The time limit passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time limit passed")]
pub struct Elapsed;

/// A future with a time limit.
#[derive(Debug)]
pub struct Timeout<F> {
    sleep: Sleep,
    future: Pin<Box<F>>,
}

impl<F> Timeout<F> {
    pub(super) fn new(sleep: Sleep, future: F) -> Timeout<F> {
        Timeout { sleep, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| Err(Elapsed))
    }
}
