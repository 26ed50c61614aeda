//! A lock that tasks wait for.

use std::cell::{RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::task::{Poll, Waker};

use openraft::OptionalSend;

/// Holds a value that one task at a time may use.
#[derive(Debug)]
pub struct Lock<T> {
    value: RefCell<T>,
    waiting: RefCell<Vec<Waker>>,
}

/// The use of a locked value.
#[derive(Debug)]
pub struct Guard<'a, T> {
    /// `None` only while it is dropped.
    value: Option<RefMut<'a, T>>,
    waiting: &'a RefCell<Vec<Waker>>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("held until dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("held until dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        // All of them: one that was woken may have given up waiting.
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

impl<T: OptionalSend + 'static> openraft::async_runtime::mutex::Mutex<T> for Lock<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Self {
        Lock { value: RefCell::new(value), waiting: RefCell::default() }
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> + OptionalSend {
        poll_fn(|context| match self.value.try_borrow_mut() {
            Ok(value) => Poll::Ready(Guard { value: Some(value), waiting: &self.waiting }),
            Err(_) => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
    }
}
