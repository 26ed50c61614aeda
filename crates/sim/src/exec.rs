//! Runs the simulated clients: futures on one thread, polled in the order in which they became ready. Nothing here knows
//! about time; what wakes a task is the scheduler's business.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Debug, Default)]
struct Ready(Mutex<VecDeque<u64>>);

impl Ready {
    fn push(&self, task: u64) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&task) {
            ready.push_back(task);
        }
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// The tasks of one run.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Ready>,
    next: u64,
}

impl Executor {
    /// Adds a task; it runs at the next [`Executor::run`].
    pub(crate) fn spawn(&mut self, task: Task) {
        let id = self.next;
        self.next += 1;
        self.tasks.insert(id, task);
        self.ready.push(id);
    }

    /// Polls what is ready until nothing is.
    pub(crate) fn run(&mut self) {
        while let Some(id) = self.ready.pop() {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { task: id, ready: self.ready.clone() }));
            if let Poll::Ready(()) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.tasks.remove(&id);
            }
        }
    }

    /// Drops every task: the clients are gone without a word.
    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
    }
}

/// Whichever of two futures ends first; the first one when both do.
pub async fn first<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> Either<A, B> {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    std::future::poll_fn(move |context| {
        if let Poll::Ready(a) = a.as_mut().poll(context) {
            return Poll::Ready(Either::First(a));
        }
        b.as_mut().poll(context).map(Either::Second)
    })
    .await
}

/// Which of two futures ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn tasks_run_in_the_order_they_became_ready() {
        let said = Rc::new(RefCell::new(Vec::new()));
        let mut executor = Executor::default();
        for name in ["a", "b"] {
            let said = said.clone();
            executor.spawn(Box::pin(async move {
                let mut turns = 0;
                std::future::poll_fn(|context| {
                    said.borrow_mut().push(name);
                    turns += 1;
                    context.waker().wake_by_ref();
                    if turns == 3 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }));
        }
        executor.run();
        assert_eq!(said.borrow().concat(), "ababab");
        assert!(executor.tasks.is_empty());
    }
}
