//! What a stage sent to the next one, kept so that a spare can be told.

use shoal_base::Digest;

/// Rows of one request at one boundary, and the prefix root after each. Whole or gone: what has
/// lost its beginning is of no use to a stage without caches.
#[derive(Clone, Debug, Default)]
pub struct ActivationLog {
    row_bytes: usize,
    rows: Vec<u8>,
    roots: Vec<Digest>,
    is_gone: bool,
}

impl ActivationLog {
    /// Of rows of so many bytes.
    #[must_use]
    pub fn new(row_bytes: usize) -> Self {
        Self { row_bytes, ..Self::default() }
    }

    /// How many positions it covers; 0 once it is gone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether it covers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.len() + self.roots.len() * 32
    }

    /// Forgets everything, for good.
    pub fn discard(&mut self) {
        *self = Self { row_bytes: self.row_bytes, is_gone: true, ..Self::default() };
    }

    /// Forgets positions from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.roots.truncate(length);
        self.rows.truncate(length * self.row_bytes);
    }

    /// Writes rows at a position and forgets what came after. A gap makes it useless.
    pub fn write(&mut self, position: usize, rows: &[u8], roots: &[Digest]) {
        let is_whole = roots.len() * self.row_bytes == rows.len();
        if self.is_gone || position > self.len() || !is_whole {
            self.discard();
            return;
        }
        self.truncate(position);
        self.rows.extend_from_slice(rows);
        self.roots.extend_from_slice(roots);
    }

    /// Rows of some positions and the root after the last one, when it has them.
    #[must_use]
    pub fn read(&self, from: usize, end: usize) -> Option<(Vec<u8>, Digest)> {
        let root = *self.roots.get(end.checked_sub(1)?)?;
        let range = from.checked_mul(self.row_bytes)?..end.checked_mul(self.row_bytes)?;
        let rows = self.rows.get(range).filter(|rows| !rows.is_empty())?;
        Some((rows.to_vec(), root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_whole_or_gone() {
        let root = |byte| Digest([byte; 32]);
        let mut log = ActivationLog::new(2);
        log.write(0, &[1, 1, 2, 2, 3, 3], &[root(1), root(2), root(3)]);
        log.write(1, &[4, 4], &[root(4)]);
        assert_eq!(log.read(0, 2), Some((vec![1, 1, 4, 4], root(4))));
        assert_eq!((log.len(), log.bytes()), (2, 68));
        assert_eq!((log.read(0, 3), log.read(1, 1)), (None, None));
        log.write(3, &[5, 5], &[root(5)]);
        assert_eq!((log.len(), log.read(0, 1)), (0, None), "a gap");
        log.write(0, &[1, 1], &[root(1)]);
        assert!(log.is_empty(), "gone for good");
    }
}
