//! Pages of keys and values: who holds which, what a sequence's positions map to, what is shared.
//!
//! A page holds 64 positions of every layer of a stage. Full pages are named by a key that covers
//! all tokens up to their end, so a sequence that begins like an earlier one takes that one's
//! pages. Invariants: a page in use is never written by two sequences; pages of the prefix cache
//! that no sequence holds are given up, least recently used first, when room is needed; the number
//! of pages never exceeds the budget.

use std::collections::{BTreeMap, HashMap};

use shoal_arith::limits::CHUNK;
use shoal_kernels::attention::{HeadsShape, KvPool, KvSlot, PageId};

/// A sequence of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Names a full page by everything before its end: package, salt and tokens, hashed as a chain.
pub type PageKey = [u8; 32];

/// What the cache cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// More pages are needed than are free or can be given up.
    #[error("{needed} pages of KV cache needed, {available} available")]
    Full {
        /// Pages needed.
        needed: usize,
        /// Pages free, or held by nobody.
        available: usize,
    },
    /// No sequence of that name.
    #[error("no such sequence")]
    NoSequence,
    /// Positions must follow on one another.
    #[error("position {got}, the sequence has {len} positions")]
    Gap {
        /// The position.
        got: usize,
        /// Positions the sequence has.
        len: usize,
    },
}

/// Pages of one stage and the sequences they belong to.
#[derive(Debug)]
pub struct KvCache {
    pub(crate) pool: KvPool,
    sequences: HashMap<SequenceId, Sequence>,
    /// Pages nobody has ever written, or that were given back.
    free: Vec<PageId>,
    /// Holders of each page.
    holders: Vec<u32>,
    /// Pages of the prefix cache by key.
    cached: HashMap<PageKey, PageId>,
    /// Key and time of last use of cached pages.
    cached_pages: HashMap<PageId, (PageKey, u64)>,
    /// Cached pages that no sequence holds, by time of last use.
    idle: BTreeMap<u64, PageId>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Sequence {
    pages: Vec<PageId>,
    len: usize,
}

impl KvCache {
    /// A cache of at most `page_count` pages for `layer_count` layers.
    #[must_use]
    pub fn new(shape: HeadsShape, layer_count: usize, page_count: usize) -> Self {
        let page_count = page_count.min(u32::MAX as usize);
        Self {
            pool: KvPool::new(shape, layer_count, page_count),
            sequences: HashMap::new(),
            free: (0..page_count as u32).rev().map(PageId).collect(),
            holders: vec![0; page_count],
            cached: HashMap::new(),
            cached_pages: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Pages in all.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pool.page_count()
    }

    /// Pages that a new sequence could get.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Pages held by sequences.
    #[must_use]
    pub fn held(&self) -> usize {
        self.page_count() - self.available()
    }

    /// Starts a sequence with the longest run of `keys` that is cached; returns its positions.
    ///
    /// # Panics
    /// When the sequence exists already.
    pub fn begin(&mut self, id: SequenceId, keys: &[PageKey]) -> usize {
        let pages: Vec<PageId> =
            keys.iter().map_while(|key| self.cached.get(key).copied()).collect();
        for &page in &pages {
            self.hold(page);
        }
        let len = pages.len() * CHUNK;
        let previous = self.sequences.insert(id, Sequence { pages, len });
        assert!(previous.is_none(), "a sequence begins once");
        len
    }

    /// Makes room for positions up to `len`.
    ///
    /// # Errors
    /// Not enough pages; nothing has changed then.
    pub fn reserve(&mut self, id: SequenceId, len: usize) -> Result<(), KvError> {
        let held = self.sequences.get(&id).ok_or(KvError::NoSequence)?.pages.len();
        let needed = len.div_ceil(CHUNK).saturating_sub(held);
        let available = self.available();
        if needed > available {
            return Err(KvError::Full { needed, available });
        }
        for _ in 0..needed {
            let page = self.take().expect("availability was checked");
            self.sequences.get_mut(&id).expect("found above").pages.push(page);
        }
        Ok(())
    }

    /// Takes a page that belongs to no sequence, for the draft tokens of a tree.
    ///
    /// # Errors
    /// No page is available.
    pub fn take_page(&mut self) -> Result<PageId, KvError> {
        self.take().ok_or(KvError::Full { needed: 1, available: 0 })
    }

    /// Gives back a page from [`Self::take_page`].
    pub fn give_page(&mut self, page: PageId) {
        self.release(page);
    }

    /// The place of position `position`, which is at most the sequence's length, and makes it part
    /// of the sequence. A position already there is a rewind to it.
    ///
    /// # Errors
    /// The position leaves a gap, or its page was not reserved.
    pub fn append(&mut self, id: SequenceId, position: usize) -> Result<KvSlot, KvError> {
        let sequence = self.sequences.get_mut(&id).ok_or(KvError::NoSequence)?;
        if position > sequence.len {
            return Err(KvError::Gap { got: position, len: sequence.len });
        }
        let chunk = position / CHUNK;
        let Some(&page) = sequence.pages.get(chunk) else {
            return Err(KvError::Full { needed: 1, available: 0 });
        };
        sequence.len = position + 1;
        let page = self.make_own(id, chunk, page)?;
        Ok(KvSlot { page, slot: (position % CHUNK) as u32 })
    }

    /// A page about to be written belongs to this sequence alone: shared ones are copied first.
    fn make_own(&mut self, id: SequenceId, chunk: usize, page: PageId) -> Result<PageId, KvError> {
        let shared = self.holders[page.0 as usize] > 1 || self.cached_pages.contains_key(&page);
        if !shared {
            return Ok(page);
        }
        let copy = self.take().ok_or(KvError::Full { needed: 1, available: 0 })?;
        self.pool.copy(page, copy);
        self.sequences.get_mut(&id).expect("the caller has it").pages[chunk] = copy;
        self.release(page);
        Ok(copy)
    }

    /// Names the full page `chunk` of a sequence, so that others can begin with it.
    pub fn publish(&mut self, id: SequenceId, chunk: usize, key: PageKey) {
        let Some(sequence) = self.sequences.get(&id) else {
            return;
        };
        let full = (chunk + 1) * CHUNK <= sequence.len;
        let Some(&page) = sequence.pages.get(chunk).filter(|_| full) else {
            return;
        };
        if self.cached.contains_key(&key) || self.cached_pages.contains_key(&page) {
            return;
        }
        self.clock += 1;
        self.cached.insert(key, page);
        self.cached_pages.insert(page, (key, self.clock));
    }

    /// Positions of a sequence.
    #[must_use]
    pub fn len(&self, id: SequenceId) -> Option<usize> {
        self.sequences.get(&id).map(|sequence| sequence.len)
    }

    /// Pages of a sequence, one per chunk.
    pub(crate) fn pages(&self, id: SequenceId) -> &[PageId] {
        self.sequences.get(&id).map_or(&[], |sequence| &sequence.pages)
    }

    /// Forgets positions from `len` on; their pages stay reserved.
    ///
    /// # Errors
    /// No such sequence.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), KvError> {
        let sequence = self.sequences.get_mut(&id).ok_or(KvError::NoSequence)?;
        sequence.len = sequence.len.min(len);
        Ok(())
    }

    /// Ends a sequence. Its published pages stay until room is needed.
    pub fn end(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.remove(&id) {
            // Last pages first, so that the beginning of a prefix is the last to go.
            for page in sequence.pages.into_iter().rev() {
                self.release(page);
            }
        }
    }

    fn hold(&mut self, page: PageId) {
        self.holders[page.0 as usize] += 1;
        if let Some((_, used)) = self.cached_pages.get(&page) {
            self.idle.remove(used);
        }
    }

    fn release(&mut self, page: PageId) {
        let holders = &mut self.holders[page.0 as usize];
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        self.clock += 1;
        match self.cached_pages.get_mut(&page) {
            Some((_, used)) => {
                *used = self.clock;
                self.idle.insert(self.clock, page);
            }
            // Its memory stays with it: it is the next to be taken.
            None => self.free.push(page),
        }
    }

    /// A page of nobody, with one holder.
    fn take(&mut self) -> Option<PageId> {
        let page = self.free.pop().or_else(|| {
            let (_, page) = self.idle.pop_first()?;
            let (key, _) = self.cached_pages.remove(&page).expect("idle pages are cached");
            self.cached.remove(&key);
            Some(page)
        })?;
        self.holders[page.0 as usize] = 1;
        Some(page)
    }
}
