//! Frames as they arrive: what is checked before anything is computed. Spec 03, 6.

use shoal_wire::{
    Duty, EndReason, FaultCode, Frame, FrameHeader, FrameKind, NodeId, RingId, flags,
};

use super::ring::{Ring, Sequence};
use super::{Stage, StageEffect, send_fault};
use crate::credit::Amount;
use crate::{Moment, limits};

/// What a frame that breaks a rule leads to.
enum Broken {
    /// The frame is dropped without a word.
    Silent,
    /// The frame is dropped, and the head is told.
    Fault(FaultCode, u64, u64),
    /// The lease ends.
    Lease(FaultCode),
}

impl Stage {
    pub(super) fn frame(
        &mut self,
        from: NodeId,
        frame: Frame,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        let header = frame.header;
        let at = Some((header.ring, header.generation));
        let Some(ring) = self.rings.get_mut(&header.ring) else {
            let past = self.past.get(&header.ring);
            if past.is_none_or(|past| past.generation < header.generation) {
                send_fault(out, from, at, None, FaultCode::NoLease, (0, 0));
            }
            return;
        };
        if header.generation < ring.generation {
            return;
        }
        if header.generation > ring.generation {
            send_fault(out, from, at, None, FaultCode::NoLease, (0, 0));
            return;
        }
        match arrive(ring, from, frame) {
            Ok(in_order) => {
                for frame in in_order {
                    self.in_order(frame, out);
                }
            }
            Err(Broken::Silent) => {}
            Err(Broken::Fault(code, got, limit)) => {
                let head = ring.head();
                send_fault(out, head, at, Some(header.request), code, (got, limit));
            }
            Err(Broken::Lease(code)) => {
                let head = ring.head();
                send_fault(out, head, at, Some(header.request), code, (0, 0));
                self.end_lease(header.ring, EndReason::Protocol, now, out);
            }
        }
        self.forget_evicted(header.ring, out);
        self.give_credit(header.ring, out);
    }

    fn forget_evicted(&mut self, id: RingId, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        for (request, log_bytes) in ring.evicted.drain(..) {
            self.log_bytes -= log_bytes;
            out.push(StageEffect::Forget { ring: id, request: Some(request) });
        }
    }

    /// A frame whose turn it is.
    fn in_order(&mut self, frame: Frame, out: &mut Vec<StageEffect>) {
        let header = frame.header;
        let at = Some((header.ring, header.generation));
        let Some(ring) = self.rings.get_mut(&header.ring) else {
            return;
        };
        if header.kind == FrameKind::Cancel {
            self.pass_on(frame, out);
            return;
        }
        let amount = Amount::of(&frame);
        let is_rows = header.rows > 0;
        match apply(ring, &header) {
            Ok(()) if is_rows => ring.enqueue(frame),
            Ok(()) => self.pass_on(frame, out),
            Err(broken) => {
                if is_rows {
                    ring.owed.add(amount);
                }
                if let (Broken::Fault(code, got, limit), false) =
                    (broken, ring.request.duty == Duty::Shadow)
                {
                    let head = ring.head();
                    send_fault(out, head, at, Some(header.request), code, (got, limit));
                }
            }
        }
    }

    /// A frame without rows: it has been obeyed here and goes on.
    fn pass_on(&mut self, frame: Frame, out: &mut Vec<StageEffect>) {
        let header = frame.header;
        self.emit(header.ring, frame, out);
        if header.kind == FrameKind::Cancel {
            self.forget(header.ring, &header, out);
        }
    }

    fn forget(&mut self, id: RingId, header: &FrameHeader, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        ring.drop_dead(header.request, shoal_wire::Epoch(u32::MAX));
        if let Some(sequence) = ring.sequences.remove(&header.request) {
            self.log_bytes -= sequence.log.bytes();
            out.push(StageEffect::Forget { ring: id, request: Some(header.request) });
        }
    }
}

/// Checks what holds for every frame of an edge, and puts frames into the order they were sent.
fn arrive(ring: &mut Ring, from: NodeId, frame: Frame) -> Result<Vec<Frame>, Broken> {
    let header = frame.header;
    let admission = *ring.admission();
    let is_shadow = ring.request.duty == Duty::Shadow;
    let is_copy = header.flags & flags::SHADOW != 0;
    if from != ring.previous() || header.stage != ring.stage || header.kind == FrameKind::Reply {
        return Err(Broken::Fault(FaultCode::Unexpected, 0, 0));
    }
    if header.rows > 0 && (is_shadow != is_copy || ring.request.duty == Duty::Warm) {
        return Err(Broken::Fault(FaultCode::Unexpected, 0, 0));
    }
    let is_large = header.rows > admission.frame_rows || header.end() > admission.context_tokens;
    if is_large || (header.rows > 0 && header.width != admission.width) {
        return Err(Broken::Lease(FaultCode::Limit));
    }
    if header.rows > 0 {
        let full = ring.credit_in();
        ring.held.add(Amount::of(&frame));
        if ring.held.frames > full.frames || ring.held.bytes > full.bytes {
            return Err(Broken::Lease(FaultCode::Credit));
        }
    }
    let row_bytes = 2 * admission.width as usize;
    if !ring.sequences.contains_key(&header.request) {
        if header.rows == 0 {
            // A stage that took over may not know a request yet that those after it do.
            let is_cancel = header.kind == FrameKind::Cancel;
            return if is_cancel { Ok(vec![frame]) } else { Err(Broken::Silent) };
        }
        // A cancel travels on another stream than the prompt that follows it: so for a moment
        // there may be more requests than were agreed on. Their tokens are counted all the same.
        let most = usize::from(admission.requests) * 2;
        while ring.sequences.len() >= most && ring.evict_stale() {}
        if ring.sequences.len() >= most {
            return Err(Broken::Lease(FaultCode::Quota));
        }
        ring.sequences.insert(header.request, Sequence::new(row_bytes, header.generation));
    }
    let sequence = ring.sequences.get_mut(&header.request).expect("it was inserted");
    sequence.generation = header.generation;
    if header.sequence < sequence.sequence_in {
        let due = sequence.sequence_in.into();
        return Err(Broken::Fault(FaultCode::Sequence, header.sequence.into(), due));
    }
    if sequence.early.len() >= limits::EARLY_FRAMES_MAX {
        return Err(Broken::Lease(FaultCode::Limit));
    }
    if sequence.early.is_empty() && header.sequence == sequence.sequence_in {
        sequence.sequence_in += 1;
        return Ok(vec![frame]);
    }
    sequence.early.insert(header.sequence, frame);
    let mut in_order = Vec::new();
    while let Some(frame) = sequence.early.remove(&sequence.sequence_in) {
        sequence.sequence_in += 1;
        in_order.push(frame);
    }
    Ok(in_order)
}

/// Changes the sequence as a frame says.
fn apply(ring: &mut Ring, header: &FrameHeader) -> Result<(), Broken> {
    let room = u64::from(ring.admission().cache_tokens);
    let mut cached = ring.cached_tokens();
    while cached + u64::from(header.rows) > room && ring.evict_stale() {
        cached = ring.cached_tokens();
    }
    let sequence = ring.sequences.get_mut(&header.request).ok_or(Broken::Silent)?;
    if header.epoch < sequence.epoch {
        return Err(Broken::Silent);
    }
    let is_new_epoch = header.epoch > sequence.epoch;
    sequence.epoch = header.epoch;
    let result = match header.kind {
        FrameKind::Commit => {
            sequence.committed = sequence.committed.max(header.committed).min(sequence.length);
            Ok(())
        }
        _ if header.position > sequence.length => {
            let (got, limit) = (header.position.into(), sequence.length.into());
            Err(Broken::Fault(FaultCode::Gap, got, limit))
        }
        _ if header.position < sequence.committed && header.flags & flags::REPLAY == 0 => {
            Err(Broken::Fault(FaultCode::Unexpected, header.position.into(), 0))
        }
        FrameKind::Rewind => {
            sequence.length = header.position;
            Ok(())
        }
        _ if cached - u64::from(sequence.length) + u64::from(header.end()) > room => {
            Err(Broken::Fault(FaultCode::CacheFull, cached, room))
        }
        _ => {
            sequence.length = header.end();
            if header.flags & flags::REPLAY == 0 {
                sequence.committed = sequence.committed.max(header.committed);
            }
            Ok(())
        }
    };
    if is_new_epoch {
        ring.drop_dead(header.request, header.epoch);
    }
    result
}
