//! The runtime that openraft runs on: one thread, time and randomness that the host hands in, tasks polled in
//! the order in which they were woken. The node and the simulator run the same one, so the same inputs give
//! the same run everywhere.
//!
//! openraft reaches its runtime through functions without a receiver, so the runtime in charge is found
//! through a thread-local that is set only while [`Runtime::enter`]'s guard lives. Nothing here blocks,
//! sleeps or starts a thread.

mod executor;
mod lock;
mod mpsc;
mod oneshot;
mod timer;
mod watch;

use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::OptionalSend;

pub use executor::{Runtime, YIELD};
pub use lock::Lock;
pub use mpsc::Mpsc;
pub use oneshot::{Closed, Oneshot};
pub use timer::{Elapsed, Moment, Sleep, Timeout};
pub use watch::Watch;

/// Draws from the randomness of the runtime in charge.
#[derive(Debug)]
pub struct Dice;

impl rand_core::TryRng for Dice {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((executor::current().random() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(executor::current().random())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            let random = executor::current().random().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = Closed;
    type JoinHandle<T: OptionalSend + 'static> = oneshot::Receiver<T>;
    type Sleep = Sleep;
    type Instant = Moment;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Dice;
    type Mpsc = Mpsc;
    type Watch = Watch;
    type Oneshot = Oneshot;
    type Mutex<T: OptionalSend + 'static> = Lock<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (result, handle) = oneshot::channel();
        executor::current().spawn(async move { result.put(future.await) });
        handle
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(executor::current().now() + duration)
    }

    fn sleep_until(deadline: Moment) -> Sleep {
        Sleep::until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::new(Self::sleep(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Moment, future: F) -> Timeout<F> {
        Timeout::new(Sleep::until(deadline.0), future)
    }

    /// A panic is a bug and ends the process: no task ever reports one.
    fn is_panic(_error: &Closed) -> bool {
        false
    }

    fn thread_rng() -> Dice {
        Dice
    }

    fn new(_threads: usize) -> Runtime {
        Runtime::seeded(0)
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.run_in_virtual_time(future)
    }

    /// Runs `f` at once: there is no other thread.
    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        std::future::ready(Ok(f()))
    }
}

#[cfg(test)]
mod tests {
    use openraft::testing::runtime::Suite;

    use super::Runtime;

    #[test]
    fn it_is_a_runtime_for_openraft() {
        Suite::<Runtime>::test_all();
    }
}
