//! Events in the order of their time; those of one time in the order in which they were made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shoal_swarm::Moment;

/// What is to happen.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    made: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), made: 0 }
    }

    pub(crate) fn push(&mut self, at: Moment, event: T) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events at once")
            }
        };
        self.slots[slot as usize] = Some(event);
        self.made += 1;
        self.heap.push(Reverse((at.0, self.made, slot)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.slots[slot as usize].take().expect("each slot is used once");
        Some((Moment(at), event))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
