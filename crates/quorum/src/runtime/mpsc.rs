//! A bounded channel with many senders and one receiver.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use openraft::OptionalSend;
use openraft::async_runtime::{MpscReceiver, MpscSender, MpscWeakSender, SendError, TryRecvError};

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiver: bool,
    receiving: Option<Waker>,
    /// Those that wait for room.
    sending: Vec<Waker>,
}

impl<T> Queue<T> {
    fn pop(&mut self) -> Result<T, TryRecvError> {
        match self.items.pop_front() {
            Some(item) => {
                // All of them: one that was woken may have given up waiting.
                self.sending.drain(..).for_each(Waker::wake);
                Ok(item)
            }
            None if self.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// Sends.
#[derive(Debug)]
pub struct Sender<T>(Rc<RefCell<Queue<T>>>);

/// Sends while somebody else keeps the channel open.
#[derive(Debug)]
pub struct WeakSender<T>(Rc<RefCell<Queue<T>>>);

/// Receives.
#[derive(Debug)]
pub struct Receiver<T>(Rc<RefCell<Queue<T>>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.borrow_mut().senders += 1;
        Sender(Rc::clone(&self.0))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.senders -= 1;
        if queue.senders == 0
            && let Some(waker) = queue.receiving.take()
        {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unread = {
            let mut queue = self.0.borrow_mut();
            queue.receiver = false;
            queue.sending.drain(..).for_each(Waker::wake);
            std::mem::take(&mut queue.items)
        };
        drop(unread);
    }
}

/// The family of bounded channels.
#[derive(Debug)]
pub struct Mpsc;

impl openraft::async_runtime::Mpsc for Mpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Queue {
            items: VecDeque::new(),
            capacity: capacity.max(1),
            senders: 1,
            receiver: true,
            receiving: None,
            sending: Vec::new(),
        };
        let queue = Rc::new(RefCell::new(queue));
        (Sender(Rc::clone(&queue)), Receiver(queue))
    }
}

impl<T: OptionalSend> MpscSender<Mpsc, T> for Sender<T> {
    fn send(&self, item: T) -> impl Future<Output = Result<(), SendError<T>>> + OptionalSend {
        let mut item = Some(item);
        poll_fn(move |context| {
            let mut queue = self.0.borrow_mut();
            let Some(sent) = item.take() else { return Poll::Pending };
            if !queue.receiver {
                return Poll::Ready(Err(SendError(sent)));
            }
            if queue.items.len() >= queue.capacity {
                queue.sending.push(context.waker().clone());
                item = Some(sent);
                return Poll::Pending;
            }
            queue.items.push_back(sent);
            if let Some(waker) = queue.receiving.take() {
                waker.wake();
            }
            Poll::Ready(Ok(()))
        })
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Rc::clone(&self.0))
    }
}

impl<T: OptionalSend> MpscWeakSender<Mpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let mut queue = self.0.borrow_mut();
        if queue.senders == 0 {
            return None;
        }
        queue.senders += 1;
        drop(queue);
        Some(Sender(Rc::clone(&self.0)))
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>> + OptionalSend {
        poll_fn(|context| {
            let mut queue = self.0.borrow_mut();
            match queue.pop() {
                Ok(item) => Poll::Ready(Some(item)),
                Err(TryRecvError::Disconnected) => Poll::Ready(None),
                Err(TryRecvError::Empty) => {
                    queue.receiving = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.borrow_mut().pop()
    }
}
