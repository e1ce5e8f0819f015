//! The drivers: what a node does with events and effects besides deciding.

use std::time::Duration;

use shoal_base::{SharedBytes, TokenId};
use shoal_swarm::{
    Failure, HeadEffect, HeadEvent, Members, ModelShape, Output, Planner, Random, Scout,
    Speculation, StageEffect, StageEvent, Want, Work, route_stages,
};
use shoal_wire::{
    Credit, Frame, FrameHeader, FrameKind, LayerRange, Message, NodeId, RequestId, RouteStage,
};

use crate::engine;
use crate::faults::{Behaviour, Bug};
use crate::random::Seeded;
use crate::world::{Event, Item, World};

/// What a head takes to sample.
const SAMPLE: Duration = Duration::from_millis(2);
/// A row of a prompt costs this share of a row alone.
const PREFILL_SHARE: f64 = 0.04;
/// Each further row of a batch costs this share.
const BATCH_SHARE: f64 = 0.05;
/// How long after it wakes a head has read what came meanwhile.
const READING: Duration = Duration::from_millis(20);
/// Spares a head chooses from.
const SPARES: usize = 4;

/// The planner over the members everybody knows.
struct SimScout<'a> {
    members: &'a Members,
    random: &'a mut Seeded,
    head: NodeId,
    model: ModelShape,
    want: Want,
}

impl SimScout<'_> {
    fn planner(&self, excluded: &[NodeId]) -> Option<Planner<'_>> {
        let mut planner = Planner::new(self.members, self.head, self.model, self.want).ok()?;
        planner.exclude(excluded.iter().copied());
        Some(planner)
    }
}

impl Scout for SimScout<'_> {
    fn route(&mut self, excluded: &[NodeId]) -> Option<Vec<RouteStage>> {
        let mut random = self.random.clone();
        let plans = self.planner(excluded)?.plans(&mut random).ok()?;
        *self.random = random;
        plans.first().map(route_stages)
    }

    fn spare(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        let spares = self.planner(excluded)?.spares(layers);
        let choice = self.random.below(spares.len().min(SPARES) as u64) as usize;
        spares.get(choice).copied()
    }
}

impl World {
    pub(crate) fn deliver(&mut self, to: u32, from: u32, life: u32, item: Item) {
        let sender = self.id(from);
        let Some(node) = self.nodes.get_mut(to as usize) else {
            let head = to - self.nodes.len() as u32;
            // Whoever reads the network was asleep too, and wakes after the clock has struck.
            let read_at = self.heads[head as usize].asleep_until + READING;
            if read_at > self.now {
                self.queue.push(read_at, Event::Deliver { to, from, life, item });
            } else {
                self.deliver_to_head(head as usize, sender, item);
            }
            return;
        };
        if node.life != life {
            return;
        }
        if !node.is_alive {
            node.arrived(&item);
            return;
        }
        if node.frozen_until > self.now {
            let at = node.frozen_until;
            self.queue.push(at, Event::Deliver { to, from, life, item });
            return;
        }
        node.arrived(&item);
        let event = match item {
            Item::Message(message) => StageEvent::Message { from: sender, message },
            Item::Frame(frame) => StageEvent::Frame { from: sender, frame: *frame },
            Item::Lost(peer) => StageEvent::PeerLost(peer),
        };
        self.stage_event(to, event);
    }

    fn deliver_to_head(&mut self, head: usize, from: NodeId, item: Item) {
        let event = match item {
            Item::Message(message) => HeadEvent::Message { from, message },
            Item::Frame(frame) => HeadEvent::Frame { from, frame: *frame },
            Item::Lost(peer) => HeadEvent::PeerLost(peer),
        };
        self.head_event(head, event);
    }

    pub(crate) fn head_event(&mut self, index: usize, event: HeadEvent) {
        let submitted = match &event {
            HeadEvent::Submit(submission) => Some(submission.request),
            _ => None,
        };
        let want = Want {
            cache_tokens: self.config.policy().cache_tokens,
            may_fetch: false,
            speculation: Speculation::Off,
        };
        let node = &mut self.heads[index];
        let mut scout = SimScout {
            members: &self.members,
            random: &mut self.random,
            head: node.key.id(),
            model: self.config.model(),
            want,
        };
        let mut out = std::mem::take(&mut self.head_out);
        let result = node.head.handle(event, self.now, &mut scout, &mut out);
        if let (Err(_), Some(request)) = (result, submitted) {
            self.report.refused += 1;
            self.invariants.finished(index, request, self.config.layers);
        }
        for effect in out.drain(..) {
            self.head_effect(index, effect);
        }
        self.head_out = out;
        let node = &mut self.heads[index];
        let wake = node.head.wake_at().filter(|at| node.wake.is_none_or(|wake| wake > *at));
        if let Some(at) = wake {
            node.wake = Some(at);
            // A tick that changed nothing must not come again at the same moment.
            let at = at.max(self.now + Duration::from_millis(1));
            self.queue.push(at, Event::WakeHead { head: index as u32 });
        }
    }

    fn head_effect(&mut self, index: usize, effect: HeadEffect) {
        let from = (self.nodes.len() + index) as u32;
        match effect {
            HeadEffect::Send { to, message } => self.post(from, to, Item::Message(message)),
            HeadEffect::SendFrame { to, frame } => self.post(from, to, Item::Frame(frame.into())),
            HeadEffect::SendRows { to, header, tokens } => {
                let frame = embedded(header, &tokens);
                self.post(from, to, Item::Frame(frame.into()));
            }
            HeadEffect::Sample { request, row, generation, .. } => {
                let present = self.heads[index].head.generation();
                let last = self.heads[index].last_sample.replace((request, generation));
                let old = last.map(|(_, old)| old).filter(|old| *old < generation);
                if let (Some(old), true) = (old, self.has(Bug::OldGeneration)) {
                    self.invariants.sampled(index, old, present);
                }
                self.invariants.sampled(index, generation, present);
                let row = engine::from_bytes(&row).next().expect("one row was asked for");
                let token = engine::sample(row);
                let event = Event::Sampled { head: index as u32, request, token };
                self.queue.push(self.now + SAMPLE, event);
            }
            HeadEffect::Token { request, index: place, token } => {
                self.token(index, request, place, token);
            }
            HeadEffect::Finished { request, failure } => self.finished(index, request, failure),
        }
    }

    fn token(&mut self, index: usize, request: RequestId, place: u32, token: TokenId) {
        self.invariants.token(index, request, place, token);
        if self.has(Bug::RepeatToken) && self.random.chance(0.01) {
            self.invariants.token(index, request, place, token);
        }
        self.report.tokens += 1;
        let generation = self.heads[index].last_sample.map(|(_, generation)| generation);
        let generation = generation.unwrap_or(shoal_wire::GenerationId(0));
        let before = self.heads[index].times.insert(request, (self.now, generation));
        if let Some((at, of)) = before {
            let gap_s = (self.now - at).as_secs_f64();
            self.report.gap(gap_s, of != generation);
        }
    }

    fn finished(&mut self, index: usize, request: RequestId, failure: Option<Failure>) {
        self.heads[index].times.remove(&request);
        if self.has(Bug::LoseAnswer) && self.random.chance(0.05) {
            self.report.finished += 1;
            return;
        }
        let layers = self.config.layers;
        self.invariants.finished(index, request, layers);
        if self.has(Bug::AnswerTwice) && self.random.chance(0.05) {
            self.invariants.finished(index, request, layers);
        }
        match failure {
            None => self.report.finished += 1,
            Some(failure) => self.report.failed(failure),
        }
    }

    pub(crate) fn stage_event(&mut self, index: u32, event: StageEvent) {
        let mut out = std::mem::take(&mut self.stage_out);
        self.nodes[index as usize].stage.handle(event, self.now, &mut out);
        for effect in out.drain(..) {
            self.stage_effect(index, effect);
        }
        self.stage_out = out;
        self.after_stage(index);
    }

    fn stage_effect(&mut self, index: u32, effect: StageEffect) {
        let behaviour = self.nodes[index as usize].behaviour;
        match effect {
            StageEffect::Send { to, mut message } => {
                if let (Behaviour::OtherAdmission, Message::LeaseGrant(grant)) =
                    (behaviour, message.as_mut())
                {
                    grant.admission.cache_tokens += 1;
                }
                self.post(index, to, Item::Message(message));
            }
            StageEffect::SendFrame { to, mut frame } => {
                if behaviour == Behaviour::Silent && frame.header.rows > 0 {
                    return;
                }
                if behaviour == Behaviour::WrongPosition {
                    frame.header.position += 1;
                }
                self.free_credit(index, to, &frame.header);
                self.post(index, to, Item::Frame(frame.into()));
            }
            StageEffect::Compute(work) => {
                let node = &self.nodes[index as usize];
                let life = node.life;
                let at = self.now + Duration::from_secs_f64(node.takes_s(&work));
                self.queue.push(at, Event::Computed { node: index, life, work });
            }
            StageEffect::Forget { ring, request } => {
                self.nodes[index as usize].engine.forget(ring, request);
            }
        }
    }

    /// The planted bug: a frame is paid back before it has left.
    fn free_credit(&mut self, index: u32, to: NodeId, header: &FrameHeader) {
        if !self.has(Bug::FreeCredit) || header.kind == FrameKind::Reply || header.rows == 0 {
            return;
        }
        let message = Message::Credit(Credit {
            ring: header.ring,
            generation: header.generation,
            frames: 1,
            bytes: header.payload_bytes,
        });
        let life = self.nodes[index as usize].life;
        let from = self.index[&to];
        let item = Item::Message(Box::new(message));
        self.queue.push(self.now, Event::Deliver { to: index, from, life, item });
    }

    pub(crate) fn computed(&mut self, index: u32, life: u32, work: Vec<Work>) {
        let keeps = self.has(Bug::KeepCache);
        let node = &mut self.nodes[index as usize];
        if !node.is_alive || node.life != life {
            return;
        }
        if node.frozen_until > self.now {
            self.queue.push(node.frozen_until, Event::Computed { node: index, life, work });
            return;
        }
        let lies = node.behaviour == Behaviour::WrongRows;
        let mut outputs = Vec::with_capacity(work.len());
        for work in &work {
            let header = work.frame.header;
            let key = (work.ring, header.request);
            let mut rows =
                node.engine.compute(key, work.layers, header.position, &work.frame.rows, keeps);
            if lies {
                rows.iter_mut().for_each(|row| *row ^= 1);
                let head = self.rings[&work.ring];
                self.invariants.taint(head, header.request);
            }
            let roots = rows.iter().map(|row| engine::root(*row)).collect();
            outputs.push(Output { header, rows: Some(engine::to_bytes(&rows)), roots });
        }
        self.stage_event(index, StageEvent::Computed(outputs));
    }
}

impl crate::world::Node {
    fn arrived(&mut self, item: &Item) {
        let Some(lease) = item.lease() else {
            return;
        };
        if let Some(count) = self.in_flight.get_mut(&lease) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&lease);
            }
        }
    }

    /// How long a batch takes, in seconds.
    fn takes_s(&self, work: &[Work]) -> f64 {
        let rows: f64 = work.iter().map(|work| f64::from(work.frame.header.rows)).sum();
        let layers = work.first().map_or(0.0, |work| f64::from(work.layers.count()));
        let share = if work.len() > 1 { BATCH_SHARE } else { PREFILL_SHARE };
        self.layer_us * self.slow * layers * (1.0 + (rows - 1.0) * share) / 1e6
    }
}

fn embedded(header: FrameHeader, tokens: &[TokenId]) -> Frame {
    let rows = tokens.iter().zip(header.position..).map(|(token, at)| engine::embed(*token, at));
    let rows: Vec<u64> = rows.collect();
    let root = engine::root(*rows.last().expect("a head sends at least one row"));
    let bytes: SharedBytes = engine::to_bytes(&rows);
    Frame::new(header, Some(root), bytes).expect("a head sends valid frames")
}
