//! The thread that computes layers: frames in, rows and roots out.
//!
//! Owns the weights, the caches, and which sequence of a cache belongs to which request of which
//! ring. Frames of one batch that need the same layers are computed together; that changes no bit.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use shoal_base::{PackageId, SharedBytes};
use shoal_engine::{Segment, SegmentKind, SequenceId, Stage};
use shoal_swarm::{Output, Work};
use shoal_wire::{ActivationRoots, FrameHeader, LayerRange, RequestId, RingId};

/// Layers that were loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) package: PackageId,
    pub(crate) layers: LayerRange,
    pub(crate) stage: Stage,
}

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Job {
    /// Hold these layers too.
    Load(Box<Loaded>),
    /// Compute a batch.
    Compute(Vec<Work>),
    /// Drop the caches of a request, or of a ring.
    Forget { ring: RingId, request: Option<RequestId> },
}

/// Loaded layers with the sequences that pass through them.
#[derive(Debug)]
struct Layers {
    loaded: Loaded,
    sequences: BTreeMap<(RingId, RequestId), Sequence>,
    next: u64,
}

#[derive(Debug)]
struct Sequence {
    id: SequenceId,
    roots: ActivationRoots,
}

/// A frame whose rows can be computed.
struct Ready {
    /// Its place in the batch.
    place: usize,
    sequence: SequenceId,
    header: FrameHeader,
    rows: SharedBytes,
}

/// Runs until nobody can send jobs any more.
pub(crate) fn run(jobs: &Receiver<Job>, done: impl Fn(Vec<Output>)) {
    let mut all: Vec<Layers> = Vec::new();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Load(loaded) => {
                all.push(Layers { loaded: *loaded, sequences: BTreeMap::new(), next: 0 });
            }
            Job::Compute(batch) => done(compute(&mut all, &batch)),
            Job::Forget { ring, request } => {
                all.iter_mut().for_each(|layers| layers.forget(ring, request));
            }
        }
    }
}

fn compute(all: &mut [Layers], batch: &[Work]) -> Vec<Output> {
    let failed = |work: &Work| Output { header: work.frame.header, rows: None, roots: Vec::new() };
    let mut outputs: Vec<Output> = batch.iter().map(failed).collect();
    let mut todo: Vec<usize> = (0..batch.len()).collect();
    for layers in all {
        let (package, range) = (layers.loaded.package, layers.loaded.layers);
        let is_ours = |work: &Work| work.package == package && range.covers(work.layers);
        let (ours, others): (Vec<_>, Vec<_>) =
            todo.into_iter().partition(|place| is_ours(&batch[*place]));
        todo = others;
        // Frames of one batch may need different layers of those that are loaded.
        let mut parts: BTreeMap<LayerRange, Vec<Ready>> = BTreeMap::new();
        for place in ours {
            let work = &batch[place];
            if let Some(ready) = layers.prepare(place, work) {
                parts.entry(work.layers).or_default().push(ready);
            }
        }
        for (part, ready) in parts {
            layers.compute(part, &ready, &mut outputs);
        }
    }
    outputs
}

impl Layers {
    /// Makes room for the rows of a frame. `None` when there is none, or rows before it are
    /// missing: the ring was promised room, so that is a defect, and this request alone ends.
    fn prepare(&mut self, place: usize, work: &Work) -> Option<Ready> {
        let header = work.frame.header;
        let (package, layers_done) = (self.loaded.package, work.layers.end);
        let cache = self.loaded.stage.cache_mut();
        let next = &mut self.next;
        let sequence = self.sequences.entry((work.ring, header.request)).or_insert_with(|| {
            let id = SequenceId(*next);
            *next += 1;
            cache.begin(id, &[]);
            Sequence { id, roots: ActivationRoots::new(package, layers_done) }
        });
        cache.reserve(sequence.id, header.end() as usize).ok()?;
        let position = header.position as usize;
        let is_joined = cache.len(sequence.id)? >= position && sequence.roots.len() >= position;
        is_joined.then(|| Ready {
            place,
            sequence: sequence.id,
            header,
            rows: work.frame.rows.clone(),
        })
    }

    fn compute(&mut self, part: LayerRange, ready: &[Ready], outputs: &mut [Output]) {
        let segment = |ready: &Ready| Segment {
            sequence: ready.sequence,
            position: ready.header.position as usize,
            kind: SegmentKind::Chain { rows: ready.header.rows.into() },
        };
        let segments: Vec<Segment> = ready.iter().map(segment).collect();
        let mut rows: Vec<u16> = ready.iter().flat_map(|ready| elements(&ready.rows)).collect();
        let part = u32::from(part.first)..u32::from(part.end);
        let Ok(faults) = self.loaded.stage.forward_part(part, &segments, &mut rows) else {
            return;
        };
        let (mut first_row, mut first) = (0, 0);
        for ready in ready {
            let count = usize::from(ready.header.rows);
            let width = ready.header.width as usize;
            let is_sound = faults[first_row..first_row + count].iter().all(Option::is_none);
            let computed = &rows[first..first + count * width];
            first_row += count;
            first += count * width;
            if is_sound {
                outputs[ready.place] = self.output(ready, computed);
            }
        }
    }

    fn output(&mut self, ready: &Ready, rows: &[u16]) -> Output {
        let Ready { header, .. } = ready;
        let bytes = bytes(rows);
        let sequence = self.sequences.get_mut(&(header.ring, header.request));
        let sequence = sequence.expect("it was prepared in this batch");
        let position = header.position as usize;
        sequence.roots.truncate(position);
        sequence.roots.append(&bytes, header.width);
        let roots = (position + 1..=header.end() as usize)
            .map(|length| sequence.roots.at(length).expect("these rows were appended"))
            .collect();
        Output { header: *header, rows: Some(SharedBytes::new(bytes)), roots }
    }

    fn forget(&mut self, ring: RingId, request: Option<RequestId>) {
        let cache = self.loaded.stage.cache_mut();
        self.sequences.retain(|(of, id), sequence| {
            let is_over = *of == ring && request.is_none_or(|request| *id == request);
            if is_over {
                cache.end(sequence.id);
            }
            !is_over
        });
    }
}

/// Rows as they travel, as numbers.
pub(crate) fn elements(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

/// Rows as they travel.
pub(crate) fn bytes(rows: &[u16]) -> Vec<u8> {
    rows.iter().flat_map(|element| element.to_le_bytes()).collect()
}
