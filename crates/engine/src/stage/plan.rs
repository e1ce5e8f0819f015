//! What a step computes, row by row: where keys and values go, and what each row sees.

use std::ops::Range;

use shoal_kernels::attention::{AttentionRow, KvSlot, PageId};

use super::{Segment, SegmentKind, Stage, TREE_TOKENS_MAX, Tree};
use crate::kv::{KvError, SequenceId};

/// Rows of a sequence that share the pages they see; small, so that threads get equal parts.
const SPAN_ROWS: usize = 8;

/// What a step computes, row by row.
pub(super) struct StepPlan {
    pub(super) slots: Vec<KvSlot>,
    pub(super) positions: Vec<usize>,
    pub(super) rows: Vec<AttentionRow>,
    pub(super) spans: Vec<SpanPlan>,
}

pub(super) struct SpanPlan {
    pub(super) rows: Range<usize>,
    pub(super) sequence: SequenceId,
    /// Page and positions of the tree the rows belong to.
    pub(super) tree: Option<(PageId, Vec<usize>)>,
}

impl Stage {
    pub(super) fn plan(&mut self, segments: &[Segment]) -> Result<StepPlan, KvError> {
        let mut plan = StepPlan { slots: vec![], positions: vec![], rows: vec![], spans: vec![] };
        for segment in segments {
            match &segment.kind {
                SegmentKind::Chain { rows } => self.plan_chain(segment, *rows, &mut plan)?,
                SegmentKind::Tree { parents } => self.plan_tree(segment, parents, &mut plan)?,
            }
        }
        Ok(plan)
    }

    fn plan_chain(
        &mut self,
        segment: &Segment,
        rows: usize,
        plan: &mut StepPlan,
    ) -> Result<(), KvError> {
        let start = plan.rows.len();
        for position in segment.position..segment.position + rows {
            plan.slots.push(self.cache.append(segment.sequence, position)?);
            plan.positions.push(position);
            let first = self.first_seen(position);
            plan.rows.push(AttentionRow { first, end: position + 1, ancestors: 0 });
        }
        for first in (start..start + rows).step_by(SPAN_ROWS) {
            let rows = first..(start + rows).min(first + SPAN_ROWS);
            plan.spans.push(SpanPlan { rows, sequence: segment.sequence, tree: None });
        }
        Ok(())
    }

    fn plan_tree(
        &mut self,
        segment: &Segment,
        parents: &[Option<u8>],
        plan: &mut StepPlan,
    ) -> Result<(), KvError> {
        assert!(parents.len() <= TREE_TOKENS_MAX, "a tree fits a page");
        let base = segment.position;
        let len = self.cache.len(segment.sequence).ok_or(KvError::NoSequence)?;
        if base > len {
            return Err(KvError::Gap { got: base, len });
        }
        self.cache.truncate(segment.sequence, base)?;
        self.trees.retain(|tree| {
            let stale = tree.sequence == segment.sequence;
            if stale {
                self.cache.give_page(tree.page);
            }
            !stale
        });
        let page = self.cache.take_page()?;
        self.trees.push(Tree { sequence: segment.sequence, page, base });
        let start = plan.rows.len();
        let mut masks: Vec<u64> = Vec::new();
        let mut positions: Vec<usize> = Vec::new();
        for (slot, parent) in parents.iter().enumerate() {
            let parent = parent.map(usize::from).filter(|&parent| parent < slot);
            let (mask, position) =
                parent.map_or((0, base), |parent| (masks[parent], positions[parent] + 1));
            masks.push(mask | 1 << slot);
            positions.push(position);
            plan.slots.push(KvSlot { page, slot: slot as u32 });
            plan.positions.push(position);
            let first = self.first_seen(position);
            // A window may be shorter than the path: ancestors before it are not seen.
            let seen = (0..=slot)
                .filter(|&s| masks[slot] >> s & 1 == 1 && positions[s] >= first)
                .fold(0, |seen, s| seen | 1 << s);
            let row = AttentionRow { first: first.min(base), end: base, ancestors: seen };
            plan.rows.push(row);
        }
        let rows = start..plan.rows.len();
        let tree = Some((page, positions));
        plan.spans.push(SpanPlan { rows, sequence: segment.sequence, tree });
        Ok(())
    }

    /// The first position that a query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        let window = self.architecture.sliding_window.map_or(usize::MAX, |w| w as usize);
        (position + 1).saturating_sub(window)
    }

    /// Cosines and sines of the rows.
    pub(super) fn angles(&mut self, positions: &[usize]) {
        let pairs = self.tables.pairs;
        self.scratch.cos.resize(positions.len() * pairs, 0.0);
        self.scratch.sin.resize(positions.len() * pairs, 0.0);
        let rows =
            self.scratch.cos.chunks_exact_mut(pairs).zip(self.scratch.sin.chunks_exact_mut(pairs));
        for (&position, (cos, sin)) in positions.iter().zip(rows) {
            self.tables.angles(position, cos, sin);
        }
    }
}
