//! What is computed next, what becomes of it, and what is sent when there is credit.

use shoal_base::{Lane, SharedBytes};
use shoal_wire::limits::THROUGH;
use shoal_wire::{
    Credit, Duty, FaultCode, Frame, FrameHeader, FrameKind, Message, NodeId, Replay, RingId, flags,
};

use super::ring::Ring;
use super::{Output, Stage, StageEffect, Work, send_fault};
use crate::credit::Amount;
use crate::limits;

impl Stage {
    /// Starts a batch if none runs: interactive before batch, decode before prompts, unless a
    /// prompt has waited for long.
    pub(super) fn start_batch(&mut self, out: &mut Vec<StageEffect>) {
        let is_idle = |ring: &Ring| ring.decode.is_empty() && ring.prefill.is_empty();
        if self.is_busy || self.rings.values().all(is_idle) {
            return;
        }
        for lane in [Lane::Interactive, Lane::Batch] {
            let prompt_waits = self.of_lane(lane).any(|(_, ring)| !ring.prefill.is_empty());
            let mut work = Vec::new();
            if !prompt_waits || self.decode_run < limits::DECODE_RUN_MAX {
                work = self.take_decode(lane);
                self.decode_run = if prompt_waits { self.decode_run + 1 } else { 0 };
            }
            if work.is_empty() {
                work = self.take_prefill(lane);
                self.decode_run = 0;
            }
            if !work.is_empty() {
                self.is_busy = true;
                for work in &work {
                    if let Some(ring) = self.rings.get_mut(&work.ring) {
                        ring.computing += 1;
                    }
                }
                self.last_served = work[work.len() - 1].ring;
                out.push(StageEffect::Compute(work));
                return;
            }
        }
    }

    fn of_lane(&self, lane: Lane) -> impl Iterator<Item = (&RingId, &Ring)> {
        self.rings.iter().filter(move |(_, ring)| ring.request.lane == lane)
    }

    /// The rings of a lane, beginning after the one that was served last.
    fn turn(&self, lane: Lane) -> Vec<RingId> {
        let after = self.of_lane(lane).filter(|(id, _)| **id > self.last_served);
        let before = self.of_lane(lane).filter(|(id, _)| **id <= self.last_served);
        after.chain(before).map(|(id, _)| *id).collect()
    }

    fn take_decode(&mut self, lane: Lane) -> Vec<Work> {
        let mut batch: Vec<Work> = Vec::new();
        for id in self.turn(lane) {
            let ring = self.rings.get_mut(&id).expect("it was just listed");
            let queued = ring.decode.len();
            for _ in 0..queued {
                let frame = ring.decode.pop_front().expect("it was just counted");
                let request = frame.header.request;
                let is_twice = batch
                    .iter()
                    .any(|work| work.ring == id && work.frame.header.request == request);
                if is_twice || batch.len() >= self.config.batch_max {
                    ring.decode.push_back(frame);
                } else {
                    batch.push(work(id, ring, frame));
                }
            }
        }
        batch
    }

    fn take_prefill(&mut self, lane: Lane) -> Vec<Work> {
        for id in self.turn(lane) {
            let ring = self.rings.get_mut(&id).expect("it was just listed");
            if let Some(frame) = ring.prefill.pop_front() {
                return vec![work(id, ring, frame)];
            }
        }
        Vec::new()
    }

    pub(super) fn computed(&mut self, outputs: Vec<Output>, out: &mut Vec<StageEffect>) {
        self.is_busy = false;
        self.rings.values_mut().for_each(|ring| ring.computing = 0);
        for output in outputs {
            self.one_computed(output, out);
        }
    }

    fn one_computed(&mut self, output: Output, out: &mut Vec<StageEffect>) {
        let header = output.header;
        let (id, request) = (header.ring, header.request);
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        if ring.generation != header.generation {
            return;
        }
        let at = Some((id, header.generation));
        ring.owed.add(Amount { frames: 1, bytes: header.payload_bytes.into() });
        let sequence = ring.sequences.get_mut(&request);
        let Some(sequence) = sequence.filter(|sequence| sequence.epoch == header.epoch) else {
            self.give_credit(id, out);
            return;
        };
        let expected = usize::from(header.rows) * 2 * header.width as usize;
        let rows = output.rows.filter(|rows| rows.len() == expected);
        let root = output.roots.last().copied();
        let (Some(rows), Some(root)) = (rows, root) else {
            let (head, stage) = (ring.head(), ring.stage.into());
            send_fault(out, head, at, Some(request), FaultCode::Arithmetic, (stage, 0));
            self.give_credit(id, out);
            return;
        };
        let before = sequence.log.bytes();
        sequence.log.write(header.position as usize, &rows, &output.roots);
        self.log_bytes = self.log_bytes - before + sequence.log.bytes();
        if self.log_bytes > self.config.log_bytes_max {
            self.log_bytes -= sequence.log.bytes();
            sequence.log.discard();
        }
        let frame = Frame::new(header, Some(root), rows).expect("the shape was checked");
        self.emit(id, frame, out);
    }

    /// Sends a frame on: to the next stage, or as a reply to the head.
    pub(super) fn emit(&mut self, id: RingId, frame: Frame, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        let is_last = ring.next().is_none() || frame.header.last_stage == ring.stage;
        if is_last || ring.request.duty == Duty::Shadow {
            if ring.request.duty == Duty::Primary && frame.header.rows > 0 {
                let to = ring.head();
                out.push(StageEffect::SendFrame { to, frame: reply(ring, &frame) });
            }
        } else {
            ring.outbox.push_back(frame);
        }
        self.pump(id, out);
    }

    /// Sends what there is credit for, and returns credit for what has left.
    pub(super) fn pump(&mut self, id: RingId, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        while let Some(frame) = ring.outbox.front() {
            let needed = if frame.header.rows > 0 { Amount::of(frame) } else { Amount::default() };
            if !ring.credit.take(needed) {
                break;
            }
            let frame = ring.outbox.pop_front().expect("there is a first one");
            send_on(ring, frame, out);
        }
        while ring.outbox.is_empty() && replay_piece(ring, id, out) {}
        self.give_credit(id, out);
    }

    /// Returns credit once it is worth a message, or when nothing else would make the sender go on.
    pub(super) fn give_credit(&mut self, id: RingId, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&id) else {
            return;
        };
        // Frames that wait for credit here keep the credit of those who sent them: so a slow stage
        // slows down everybody before it, and nothing piles up.
        let full = Amount::full(ring.admission());
        let owed = ring.owed;
        let waiting = ring.outbox.iter().filter(|frame| frame.header.rows > 0).count() as u32;
        let frames = owed.frames.saturating_sub(waiting);
        let is_due = frames >= full.frames.div_ceil(4) || owed.bytes >= full.bytes / 4;
        if frames == 0 || !is_due {
            return;
        }
        // The bytes of frames that wait are those of their rows, as rows do not change in size.
        let held: u64 = ring.outbox.iter().map(|f| u64::from(f.header.payload_bytes)).sum();
        let bytes = owed.bytes.saturating_sub(held);
        let given = Amount { frames, bytes };
        ring.owed.take(given);
        ring.held.frames -= given.frames.min(ring.held.frames);
        ring.held.bytes -= given.bytes.min(ring.held.bytes);
        let message = Box::new(Message::Credit(Credit {
            ring: id,
            generation: ring.generation,
            frames: u16::try_from(given.frames).unwrap_or(u16::MAX),
            bytes: u32::try_from(given.bytes).unwrap_or(u32::MAX),
        }));
        out.push(StageEffect::Send { to: ring.previous(), message });
    }

    pub(super) fn credit(&mut self, from: NodeId, credit: Credit, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.get_mut(&credit.ring) else {
            return;
        };
        if ring.generation != credit.generation {
            return;
        }
        let amount = Amount { frames: credit.frames.into(), bytes: credit.bytes.into() };
        let full = Amount::full(ring.admission());
        let of_shadow = Amount::of_shadow(ring.admission());
        let is_shadow = ring.shadow() == Some(from);
        if ring.next() == Some(from) {
            ring.credit.give_back(amount, full);
        } else if let Some(credit) = ring.shadow_credit.as_mut().filter(|_| is_shadow) {
            credit.give_back(amount, of_shadow);
        }
        self.pump(credit.ring, out);
    }

    pub(super) fn replay(&mut self, from: NodeId, replay: Replay, out: &mut Vec<StageEffect>) {
        let at = Some((replay.ring, replay.generation));
        let ring = self.rings.get_mut(&replay.ring);
        let ring = ring.filter(|r| r.head() == from && r.generation == replay.generation);
        let Some(ring) = ring else {
            send_fault(out, from, at, Some(replay.request), FaultCode::NoLease, (0, 0));
            return;
        };
        let sequence = ring.sequences.get_mut(&replay.request);
        let end = replay.end as usize;
        let covered = sequence.as_ref().is_some_and(|sequence| sequence.log.len() >= end);
        let (true, Some(sequence)) = (covered && ring.request.duty == Duty::Primary, sequence)
        else {
            send_fault(out, from, at, Some(replay.request), FaultCode::LogGone, (0, 0));
            return;
        };
        sequence.epoch = sequence.epoch.max(replay.epoch);
        ring.drop_dead(replay.request, replay.epoch);
        ring.outbox.retain(|frame| frame.header.request != replay.request);
        ring.replays.retain(|other| other.request != replay.request);
        ring.replays.push_back(replay);
        self.pump(replay.ring, out);
    }
}

fn work(id: RingId, ring: &Ring, frame: Frame) -> Work {
    let admission = ring.admission();
    Work { ring: id, package: admission.package, layers: admission.layers, frame }
}

/// The answer to a frame that stops here.
fn reply(ring: &Ring, frame: &Frame) -> Frame {
    let asked = frame.header;
    let rows = if ring.next().is_none() { asked.reply_rows } else { 0 };
    let bytes = usize::from(rows) * 2 * asked.width as usize;
    let start = frame.rows.len() - bytes;
    let kept = frame.rows.slice(start..frame.rows.len()).expect("at most the rows there are");
    let header = FrameHeader {
        kind: FrameKind::Reply,
        flags: 0,
        position: asked.end() - u32::from(rows),
        rows,
        reply_rows: 0,
        width: if rows == 0 { 0 } else { asked.width },
        stage: ring.stage,
        last_stage: THROUGH,
        ..asked
    };
    let kept = if rows == 0 { SharedBytes::new(Vec::new()) } else { kept };
    Frame::new(header, frame.root, kept).expect("cut from a valid frame")
}

/// Sends a frame to the next stage and a copy to its shadow.
fn send_on(ring: &mut Ring, frame: Frame, out: &mut Vec<StageEffect>) {
    let Frame { mut header, root, rows } = frame;
    header.stage = ring.stage + 1;
    header.sequence = 0;
    if let Some(sequence) = ring.sequences.get_mut(&header.request) {
        header.sequence = sequence.sequence_out;
        sequence.sequence_out += 1;
    }
    let to = ring.next().expect("only frames that go on are sent on");
    let frame = Frame { header, root, rows };
    let needed = if header.rows > 0 { Amount::of(&frame) } else { Amount::default() };
    if let (Some(shadow), Some(credit)) = (ring.shadow(), ring.shadow_credit.as_mut()) {
        if credit.take(needed) {
            let mut copy = frame.clone();
            copy.header.flags |= if header.rows > 0 { flags::SHADOW } else { 0 };
            out.push(StageEffect::SendFrame { to: shadow, frame: copy });
        } else {
            // A shadow that cannot keep up must not slow down the ring.
            ring.lose_shadow();
        }
    }
    out.push(StageEffect::SendFrame { to, frame });
}

/// Sends the next rows of the first replay, if there is credit for them.
fn replay_piece(ring: &mut Ring, id: RingId, out: &mut Vec<StageEffect>) -> bool {
    let Some(mut replay) = ring.replays.pop_front() else {
        return false;
    };
    let admission = *ring.admission();
    let end = replay.end.min(replay.from + u32::from(admission.frame_rows));
    let sequence = ring.sequences.get(&replay.request);
    let rows = sequence.and_then(|s| s.log.read(replay.from as usize, end as usize));
    let Some((rows, root)) = rows else {
        let at = Some((id, ring.generation));
        let head = ring.head();
        send_fault(out, head, at, Some(replay.request), FaultCode::LogGone, (0, 0));
        return true;
    };
    let header = FrameHeader {
        kind: FrameKind::Prefill,
        version: shoal_wire::Version(shoal_wire::limits::VERSION),
        flags: flags::REPLAY,
        ring: id,
        generation: ring.generation,
        request: replay.request,
        epoch: replay.epoch,
        position: replay.from,
        rows: u16::try_from(end - replay.from).expect("at most the rows of a frame"),
        reply_rows: 0,
        width: admission.width,
        committed: 0,
        sequence: 0,
        payload_bytes: 0,
        stage: ring.stage + 1,
        last_stage: replay.last_stage,
        lane: ring.request.lane,
        payload: admission.payload,
    };
    let frame = Frame::new(header, Some(root), SharedBytes::new(rows));
    let frame = frame.expect("rows of a log have the shape of the ring");
    if !ring.credit.take(Amount::of(&frame)) {
        ring.replays.push_front(replay);
        return false;
    }
    send_on(ring, frame, out);
    replay.from = end;
    if replay.from < replay.end {
        ring.replays.push_front(replay);
    }
    true
}
