//! The run: one event after another, each handed to the state machine it is for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use shoal_base::TokenId;
use shoal_swarm::{
    Head, HeadEffect, HeadEvent, Members, Moment, NodeKey, Random, Stage, StageEffect, StageEvent,
    Submission, Work,
};
use shoal_wire::{
    Coordinate, Frame, GenerationId, LayerRange, MemberState, Message, NodeId, RequestId, RingId,
};

use crate::engine::Engine;
use crate::faults::{Behaviour, Bug};
use crate::invariants::Invariants;
use crate::links::Sites;
use crate::load::Lengths;
use crate::queue::Queue;
use crate::random::Seeded;
use crate::report::Report;
use crate::setup::Config;

/// Frames of one ring on their way to one node: its credit.
const CREDIT_FRAMES: usize = 16;
/// Frames without rows that may be queued besides.
const WITHOUT_ROWS: usize = 32;
/// Mean time until a node that was killed is back.
const DOWN_S: f64 = 600.0;
/// How long the directory takes to notice that a node has gone.
const STALE: Duration = Duration::from_secs(90);
/// Until a transport notices that a peer cannot be reached.
const LOST_AFTER: Duration = Duration::from_secs(2);
const VOCAB: u64 = 32_000;

/// What travels.
#[derive(Debug)]
pub(crate) enum Item {
    Message(Box<Message>),
    Frame(Box<Frame>),
    /// The transport gave up on a peer.
    Lost(NodeId),
}

impl Item {
    /// Whose credit it uses.
    pub(crate) fn lease(&self) -> Option<(RingId, GenerationId)> {
        match self {
            Self::Frame(frame) if frame.header.rows > 0 => {
                Some((frame.header.ring, frame.header.generation))
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Deliver { to: u32, from: u32, life: u32, item: Item },
    Computed { node: u32, life: u32, work: Vec<Work> },
    Sampled { head: u32, request: RequestId, token: TokenId },
    WakeStage { node: u32, life: u32 },
    WakeHead { head: u32 },
    Arrival,
    Churn,
    Nap,
    Revive { node: u32 },
    Gone { node: u32, life: u32 },
    Stop { node: u32, life: u32 },
    Heal,
    Speed { node: u32 },
}

/// A node that holds layers.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: NodeKey,
    pub(crate) stage: Stage,
    pub(crate) engine: Engine,
    /// Rises with each start: what was sent to an earlier one does not arrive.
    pub(crate) life: u32,
    pub(crate) is_alive: bool,
    pub(crate) frozen_until: Moment,
    pub(crate) behaviour: Behaviour,
    pub(crate) slow: f64,
    pub(crate) layer_us: f64,
    pub(crate) layers: LayerRange,
    pub(crate) place: Coordinate,
    pub(crate) uplink_bytes_per_s: f64,
    pub(crate) uplink_free: Moment,
    pub(crate) sequence: u64,
    pub(crate) wake: Option<Moment>,
    /// Frames on their way to it.
    pub(crate) in_flight: BTreeMap<(RingId, GenerationId), usize>,
    pub(crate) leaves_at: Option<Moment>,
}

/// A node that asks.
#[derive(Debug)]
pub(crate) struct HeadNode {
    pub(crate) key: NodeKey,
    pub(crate) head: Head,
    pub(crate) next_request: u64,
    pub(crate) wake: Option<Moment>,
    /// Until then whatever happens to it has to wait.
    pub(crate) asleep_until: Moment,
    /// Request and generation of the last row that was sampled.
    pub(crate) last_sample: Option<(RequestId, GenerationId)>,
    /// When each request got its last token, and of which generation.
    pub(crate) times: BTreeMap<RequestId, (Moment, GenerationId)>,
}

/// A simulated swarm.
#[derive(Debug)]
pub struct World {
    pub(crate) config: Config,
    pub(crate) random: Seeded,
    pub(crate) now: Moment,
    pub(crate) queue: Queue<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) heads: Vec<HeadNode>,
    pub(crate) index: HashMap<NodeId, u32>,
    pub(crate) rings: BTreeMap<RingId, usize>,
    pub(crate) members: Members,
    pub(crate) sites: Sites,
    pub(crate) lengths: Lengths,
    pub(crate) invariants: Invariants,
    pub(crate) report: Report,
    /// When the last item of an edge and class arrives: streams keep their order.
    pub(crate) arrivals: Vec<u64>,
    /// Nodes that nobody else reaches.
    pub(crate) partition: Vec<u32>,
    /// Kept from step to step, for their memory.
    pub(crate) stage_out: Vec<StageEffect>,
    pub(crate) head_out: Vec<HeadEffect>,
}

impl World {
    /// Runs to the end and reports.
    #[must_use]
    pub fn run(mut self) -> Report {
        let started = std::time::Instant::now();
        self.queue.push(Moment(0), Event::Arrival);
        self.next_churn();
        self.next_nap();
        let end = self.config.end();
        let stop = Moment(0) + self.config.time;
        while let Some((at, event)) = self.queue.pop() {
            if at > end || (at > stop && self.is_settled()) {
                break;
            }
            self.now = at;
            self.report.events += 1;
            self.step(event);
        }
        self.invariants.ended();
        self.report.queue_max = self.report.queue_max.max(self.queue.len());
        for head in &self.heads {
            let status = head.head.status();
            self.report.replaced += status.replaced;
            self.report.replayed_tokens += status.replayed_tokens;
        }
        self.report.close(self.invariants, started.elapsed())
    }

    fn is_settled(&self) -> bool {
        self.report.submitted == self.report.ended()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, life, item } => self.deliver(to, from, life, item),
            Event::Computed { node, life, work } => self.computed(node, life, work),
            Event::Sampled { head, .. } | Event::WakeHead { head } if self.sleeps(head) => {
                let at = self.heads[head as usize].asleep_until;
                self.queue.push(at, event);
            }
            Event::Sampled { head, request, token } => {
                let event = HeadEvent::Sampled { request, token, is_last: false };
                self.head_event(head as usize, event);
            }
            Event::WakeStage { node, life } => {
                let waking = &mut self.nodes[node as usize];
                if waking.is_alive && waking.life == life {
                    waking.wake = None;
                    self.stage_event(node, StageEvent::Tick);
                }
            }
            Event::WakeHead { head } => {
                self.heads[head as usize].wake = None;
                self.head_event(head as usize, HeadEvent::Tick);
            }
            Event::Arrival => self.arrival(),
            Event::Churn => self.churn(),
            Event::Nap => self.nap(),
            Event::Revive { node } => self.revive(node),
            Event::Gone { node, life } => {
                let gone = &self.nodes[node as usize];
                if !gone.is_alive && gone.life == life {
                    self.announce(node, MemberState::Left);
                }
            }
            Event::Stop { node, life } => {
                if self.nodes[node as usize].life == life {
                    self.kill(node);
                }
            }
            Event::Heal => self.partition.clear(),
            Event::Speed { node } => self.nodes[node as usize].slow = 1.0,
        }
    }

    fn arrival(&mut self) {
        if self.now >= Moment(0) + self.config.time {
            return;
        }
        let gap = self.random.exponential(1.0 / self.config.rate);
        self.queue.push(self.now + Duration::from_secs_f64(gap), Event::Arrival);
        let head = self.random.below(self.heads.len() as u64) as usize;
        let (prompt, answer) = self.lengths.draw(&mut self.random);
        let request = RequestId(self.heads[head].next_request);
        let random = &mut self.random;
        let tokens: Vec<TokenId> =
            (0..prompt).map(|_| TokenId(random.below(VOCAB) as u32)).collect();
        let submission = Submission { request, tokens: tokens.clone(), tokens_max: answer };
        self.heads[head].next_request += 1;
        self.report.submitted += 1;
        self.invariants.submitted(head, request, tokens);
        self.head_event(head, HeadEvent::Submit(submission));
    }

    fn next_churn(&mut self) {
        if self.config.churn > 0.0 {
            let mean_s = 3600.0 / (self.config.churn * self.nodes.len() as f64);
            let gap = self.random.exponential(mean_s);
            self.queue.push(self.now + Duration::from_secs_f64(gap), Event::Churn);
        }
    }

    fn next_nap(&mut self) {
        if self.config.naps > 0.0 {
            let mean_s = 3600.0 / (self.config.naps * self.heads.len() as f64);
            let gap = self.random.exponential(mean_s);
            self.queue.push(self.now + Duration::from_secs_f64(gap), Event::Nap);
        }
    }

    /// A head is not awake for a while, as on a machine whose cores others keep busy.
    fn nap(&mut self) {
        self.next_nap();
        let head = self.random.below(self.heads.len() as u64) as usize;
        if self.sleeps(head as u32) {
            // It would be asleep for longer than a lease lasts.
            return;
        }
        let nap = Duration::from_secs_f64(0.2 + self.random.unit() * 2.3);
        self.heads[head].asleep_until = self.now + nap;
    }

    pub(crate) fn sleeps(&self, head: u32) -> bool {
        self.heads[head as usize].asleep_until > self.now
    }

    /// Something happens to some node.
    fn churn(&mut self) {
        self.next_churn();
        let node = self.random.below(self.nodes.len() as u64) as u32;
        let chosen = &mut self.nodes[node as usize];
        if !chosen.is_alive || chosen.leaves_at.is_some() {
            return;
        }
        let life = chosen.life;
        self.report.faults += 1;
        match self.random.below(20) {
            0..=11 => self.kill(node),
            12..=14 => {
                let frozen = Duration::from_secs_f64(0.2 + self.random.exponential(3.0));
                self.nodes[node as usize].frozen_until = self.now + frozen;
            }
            15..=17 => {
                let leaves_at = self.now + Duration::from_secs(30);
                self.nodes[node as usize].leaves_at = Some(leaves_at);
                self.announce(node, MemberState::Draining);
                self.stage_event(node, StageEvent::Drain { drain_ms: 30_000 });
                self.queue.push(leaves_at, Event::Stop { node, life });
            }
            18 => {
                self.nodes[node as usize].slow = 8.0;
                self.queue.push(self.now + Duration::from_secs(120), Event::Speed { node });
            }
            _ => {
                let others = (self.nodes.len() / 20) as u32;
                self.partition =
                    (0..=others).map(|i| (node + i) % self.nodes.len() as u32).collect();
                let heals = 5.0 + self.random.exponential(20.0);
                self.queue.push(self.now + Duration::from_secs_f64(heals), Event::Heal);
            }
        }
    }

    fn kill(&mut self, node: u32) {
        let killed = &mut self.nodes[node as usize];
        if !killed.is_alive {
            return;
        }
        killed.is_alive = false;
        killed.life += 1;
        killed.in_flight.clear();
        let life = killed.life;
        self.queue.push(self.now + STALE, Event::Gone { node, life });
        let down = Duration::from_secs_f64(5.0 + self.random.exponential(DOWN_S));
        self.queue.push(self.now + down, Event::Revive { node });
    }

    fn revive(&mut self, node: u32) {
        let revived = &mut self.nodes[node as usize];
        revived.is_alive = true;
        revived.leaves_at = None;
        revived.frozen_until = Moment(0);
        revived.start(&self.config);
        self.announce(node, MemberState::Active);
    }

    fn announce(&mut self, node: u32, state: MemberState) {
        let node = &mut self.nodes[node as usize];
        node.sequence += 1;
        self.members.learn(node.describe(state), self.now).expect("nodes sign what they say");
    }

    /// Sends something from one node to another.
    pub(crate) fn post(&mut self, from: u32, to: NodeId, item: Item) {
        let Some(&to) = self.index.get(&to) else {
            return;
        };
        let is_apart = self.partition.contains(&from) != self.partition.contains(&to);
        if is_apart && from != to {
            let lost = Item::Lost(self.id(to));
            let life = self.life(from);
            let event = Event::Deliver { to: from, from, life, item: lost };
            self.queue.push(self.now + LOST_AFTER, event);
            return;
        }
        let (class, bytes) = match &item {
            Item::Frame(frame) => {
                // Rows are 512 times as wide as those that are computed here.
                (usize::from(frame.header.rows > 1), frame.header.payload_bytes as usize * 512)
            }
            _ => (0, 0),
        };
        let mut leaves = self.now;
        if let Some(node) = self.nodes.get_mut(from as usize).filter(|_| class == 1) {
            let takes = Duration::from_secs_f64(bytes as f64 / node.uplink_bytes_per_s);
            node.uplink_free = node.uplink_free.max(self.now) + takes;
            leaves = node.uplink_free;
        }
        let delay = self.sites.one_way_us(from as usize, to as usize);
        let jitter = self.random.below(delay / 10 + 1);
        let total = self.nodes.len() + self.heads.len();
        let edge = (from as usize * total + to as usize) * 2 + class;
        let at = (leaves.0 + delay + jitter).max(self.arrivals[edge] + 1);
        self.arrivals[edge] = at;
        let (life, credit) = (self.life(to), self.credit_frames());
        if let (Some(node), Some(lease)) = (self.nodes.get_mut(to as usize), item.lease()) {
            let count = node.in_flight.entry(lease).or_default();
            *count += 1;
            self.invariants.queued(*count, credit);
        }
        self.queue.push(Moment(at), Event::Deliver { to, from, life, item });
    }

    /// The most frames with rows that a node may have of one ring; a shadow may have more.
    fn credit_frames(&self) -> usize {
        let times =
            if self.config.shadows { shoal_wire::limits::SHADOW_CREDIT as usize } else { 1 };
        CREDIT_FRAMES * times
    }

    fn life(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).map_or(0, |node| node.life)
    }

    pub(crate) fn id(&self, index: u32) -> NodeId {
        match self.nodes.get(index as usize) {
            Some(node) => node.id,
            None => self.heads[index as usize - self.nodes.len()].key.id(),
        }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    /// Checks what holds for a stage after every step of it, and sees to its next tick.
    pub(crate) fn after_stage(&mut self, index: u32) {
        let credit = self.credit_frames();
        let node = &mut self.nodes[index as usize];
        let queued = node.stage.queued_frames_max();
        self.report.stage_queue_max = self.report.stage_queue_max.max(queued);
        self.invariants.queued(queued, credit + WITHOUT_ROWS);
        let wake = node.stage.wake_at().filter(|at| node.wake.is_none_or(|wake| wake > *at));
        if let Some(at) = wake {
            node.wake = Some(at);
            let life = node.life;
            self.queue.push(at.max(self.now), Event::WakeStage { node: index, life });
        }
    }
}
