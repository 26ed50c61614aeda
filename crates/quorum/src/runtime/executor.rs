//! Tasks, the queue of those that were woken, and timers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use moldau_base::{Mono, Rng};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The runtime in charge of this thread.
///
/// # Panics
/// Outside of [`Runtime::enter`]: a bug of this crate.
pub(super) fn current() -> Rc<Core> {
    CURRENT
        .with(|current| current.borrow().clone())
        .expect("a quorum runs its guest only inside Runtime::enter")
}

/// openraft sleeps for a microsecond or less to let other tasks run and to gather notifications.
pub const YIELD: Duration = Duration::from_micros(10);

/// `None` while the task is polled.
struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

type Ready = Arc<Mutex<VecDeque<u64>>>;

/// A task is queued at most once, however often it is woken.
struct TaskWaker {
    task: u64,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.task);
        }
    }
}

/// What the functions without a receiver reach.
pub(super) struct Core {
    now: Cell<Mono>,
    rng: RefCell<Rng>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    timers: RefCell<BTreeMap<(Mono, u64), Waker>>,
    ready: Ready,
    ids: Cell<u64>,
}

impl Core {
    pub(super) fn now(&self) -> Mono {
        self.now.get()
    }

    pub(super) fn random(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let id = self.next_id();
        let waker =
            Arc::new(TaskWaker { task: id, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(id, Task { future: Some(Box::pin(future)), waker });
    }

    /// Wakes `waker` at `at`; the key takes it back.
    pub(super) fn add_timer(&self, at: Mono, waker: Waker) -> (Mono, u64) {
        let key = (at, self.next_id());
        self.timers.borrow_mut().insert(key, waker);
        key
    }

    pub(super) fn remove_timer(&self, key: (Mono, u64)) {
        self.timers.borrow_mut().remove(&key);
    }

    fn fire_timers(&self) {
        loop {
            let due = {
                let mut timers = self.timers.borrow_mut();
                let first = timers.first_entry().filter(|entry| entry.key().0 <= self.now());
                first.map(|entry| entry.remove())
            };
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    /// Polls the task that was woken first; false when none was.
    fn poll_one(&self) -> bool {
        let id = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(id) = id else { return false };
        let taken =
            self.tasks.borrow_mut().get_mut(&id).map(|task| (task.future.take(), Arc::clone(&task.waker)));
        let Some((Some(mut future), waker)) = taken else { return true };
        waker.queued.store(false, Ordering::Relaxed);
        let poll = future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker)));
        let mut tasks = self.tasks.borrow_mut();
        match poll {
            Poll::Ready(()) => {
                let done = tasks.remove(&id);
                drop(tasks);
                drop(done);
            }
            Poll::Pending => {
                if let Some(task) = tasks.get_mut(&id) {
                    task.future = Some(future);
                }
            }
        }
        true
    }
}

/// A runtime; see the module.
pub struct Runtime {
    core: Rc<Core>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("now", &self.core.now()).finish_non_exhaustive()
    }
}

/// Keeps a runtime in charge of this thread.
#[derive(Debug)]
pub struct Entered {
    before: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| *current.borrow_mut() = self.before.take());
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

impl Runtime {
    /// A runtime at time zero whose random numbers follow from `seed`.
    pub fn seeded(seed: u64) -> Runtime {
        let core = Core {
            now: Cell::new(Mono::default()),
            rng: RefCell::new(Rng::seeded(seed)),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            ready: Ready::default(),
            ids: Cell::new(0),
        };
        Runtime { core: Rc::new(core) }
    }

    /// Puts this runtime in charge of the thread until the guard is dropped.
    pub fn enter(&self) -> Entered {
        let before = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(&self.core)));
        Entered { before }
    }

    /// Starts a task; it first runs in [`Runtime::run_until_idle`].
    pub fn start(&self, future: impl Future<Output = ()> + 'static) {
        self.core.spawn(future);
    }

    /// Runs all tasks until each waits for a message or for a later time. A sleep of at most [`YIELD`] is
    /// over when nothing else is left to do, and the clock runs ahead of the host's by as much.
    pub fn run_until_idle(&self, now: Mono) {
        let _entered = self.enter();
        self.core.now.set(now.max(self.core.now()));
        loop {
            self.core.fire_timers();
            while self.core.poll_one() {}
            match self.deadline() {
                Some(next) if next <= self.core.now() + YIELD => self.core.now.set(next.max(self.core.now())),
                _ => return,
            }
        }
    }

    /// The next time at which a task wants to run.
    pub fn deadline(&self) -> Option<Mono> {
        self.core.timers.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Drops all tasks.
    pub fn clear(&self) {
        let _entered = self.enter();
        let tasks = std::mem::take(&mut *self.core.tasks.borrow_mut());
        drop(tasks);
        self.core.timers.borrow_mut().clear();
    }

    /// Runs `future` and all tasks; when all wait, time jumps to the next timer.
    ///
    /// # Panics
    /// If everything waits and no timer is set.
    pub(super) fn run_in_virtual_time<T>(&self, future: impl Future<Output = T>) -> T {
        let _entered = self.enter();
        let mut future = pin!(future);
        let waker = Arc::new(TaskWaker {
            task: u64::MAX,
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.core.ready),
        });
        loop {
            if let Poll::Ready(value) =
                future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker.clone())))
            {
                return value;
            }
            while self.core.poll_one() {}
            if !waker.queued.swap(false, Ordering::Relaxed) {
                let next = self.deadline().expect("everything waits and no timer is set");
                self.core.now.set(next.max(self.core.now()));
                self.core.fire_timers();
            }
        }
    }
}
