//! The last few batches of one producer, oldest first, without a heap allocation.

use moldau_base::limits::BATCHES_PER_PRODUCER;

/// What is remembered of a batch: enough to know it again and to answer it as the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) last_sequence: i32,
    pub(crate) offset_delta: i32,
    pub(crate) last_offset: i64,
    pub(crate) timestamp: i64,
}

impl Seen {
    pub(crate) fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Recent {
    batches: [Seen; BATCHES_PER_PRODUCER],
    len: u8,
}

impl Recent {
    pub(crate) fn as_slice(&self) -> &[Seen] {
        &self.batches[..usize::from(self.len)]
    }

    pub(crate) fn last(&self) -> Option<&Seen> {
        self.as_slice().last()
    }

    pub(crate) fn push(&mut self, seen: Seen) {
        if usize::from(self.len) == BATCHES_PER_PRODUCER {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = seen;
        self.len += 1;
    }

    pub(crate) fn clear(&mut self) {
        *self = Recent::default();
    }
}
