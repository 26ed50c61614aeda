//! A channel for one value; also what a spawned task hands its result through.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use openraft::OptionalSend;

/// The sender was dropped without sending: a task that was dropped, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side is gone")]
pub struct Closed;

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    sender: bool,
    receiver: bool,
    waker: Option<Waker>,
}

/// Sends one value.
#[derive(Debug)]
pub struct Sender<T>(Rc<RefCell<Slot<T>>>);

/// Waits for one value.
#[derive(Debug)]
pub struct Receiver<T>(Rc<RefCell<Slot<T>>>);

pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, sender: true, receiver: true, waker: None }));
    (Sender(Rc::clone(&slot)), Receiver(slot))
}

impl<T> Sender<T> {
    /// Sends, and forgets the value if nobody waits for it.
    pub(super) fn put(self, value: T) {
        drop(self.try_put(value));
    }

    fn try_put(&self, value: T) -> Result<(), T> {
        let waker = {
            let mut slot = self.0.borrow_mut();
            if !slot.receiver {
                return Err(value);
            }
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.sender = false;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unread = {
            let mut slot = self.0.borrow_mut();
            slot.receiver = false;
            slot.value.take()
        };
        drop(unread);
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if !slot.sender {
            return Poll::Ready(Err(Closed));
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The family of one-value channels.
#[derive(Debug)]
pub struct Oneshot;

impl openraft::async_runtime::Oneshot for Oneshot {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type ReceiverError = Closed;

    fn channel<T: OptionalSend>() -> (Sender<T>, Receiver<T>) {
        channel()
    }
}

impl<T: OptionalSend> openraft::async_runtime::OneshotSender<T> for Sender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.try_put(value)
    }
}
