//! The loop: events of the network, of the threads and of the owner go in, effects come out.
//!
//! It decides nothing about rings: `swarm` does. It decides who may connect, and which messages a
//! state machine gets to see.

mod about;
mod layers;
mod member;
mod messages;
mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender as Jobs;
use std::time::Instant;

use shoal_base::{GenerateError, PackageId, TokenId};
use shoal_net::Incoming;
use shoal_swarm::{
    Gossip, HeadEffect, HeadEvent, Holding, Moment, Output, Stage, StageEffect, StageEvent,
    Submission,
};
use shoal_wire::limits::RANGES_MAX;
use shoal_wire::{
    FaultCode, LayerRange, LeaseRequest, MemberState, Message, NodeId, Offer, RequestId, RingId,
};
use tokio::sync::mpsc;

use crate::book::Book;
use crate::compute::{Job, Loaded};
use crate::head::{Asked, HeadJob, HeadOutput};
use crate::layers::{Layers, LayersEvent};
use crate::limits::{TICK, TICK_IDLE};
use crate::links::Links;
use crate::membership::Membership;
use crate::owner::RestReason;
use crate::peers::{NetEvent, Outgoing, Peers, Unsent};
use crate::speed::Speed;
use crate::way::Way;
pub(crate) use messages::fault;
pub(crate) use slot::Slot;

/// A request on its way to its ring.
pub(crate) struct Submit {
    pub(crate) ring: RingId,
    pub(crate) request: RequestId,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) asked: Box<Asked>,
}

/// What the threads and the owner say.
pub(crate) enum Command {
    /// Layers are ready to be computed.
    Load { loaded: Box<Loaded>, width: u32, arithmetic: u16, cache_tokens: u32, speed: Speed },
    /// A head begins.
    StartRing { ring: RingId, slot: Box<Slot> },
    /// A head ends.
    EndRing(RingId),
    /// A request.
    Submit(Box<Submit>),
    /// The client no longer wants an answer.
    Cancel { ring: RingId, request: RequestId },
    /// The batch is done.
    Computed(Vec<Output>),
    /// The thread of a head.
    Head { ring: RingId, output: HeadOutput },
    /// A state is on the disk, or could not be written.
    Kept { then: Option<(NodeId, Box<Message>)>, is_kept: bool },
    /// The owner wants something done between two events.
    Do(Box<dyn FnOnce(&mut Driver) + Send>),
    /// Something about layers that travel.
    Layers(Box<LayersEvent>),
    /// The node ends.
    Stop,
}

/// What is left to do after an event.
enum Todo {
    /// This node sent itself something.
    Own(Incoming),
    /// A peer is gone, and why.
    Lost(NodeId, String),
}

/// The state of a node.
pub(crate) struct Driver {
    me: NodeId,
    start: Instant,
    book: Book,
    peers: Peers,
    /// Of a node in a swarm.
    member: Option<Membership>,
    links: Links,
    gossip: Gossip,
    stage: Stage,
    compute: Jobs<Job>,
    holdings: BTreeMap<PackageId, Holding>,
    speeds: BTreeMap<PackageId, Speed>,
    /// Whether others are to count on this node.
    state: MemberState,
    /// Why this node does not compute for others now.
    rests: Vec<RestReason>,
    /// What was last said of the layers here.
    offered: Vec<Offer>,
    slots: BTreeMap<RingId, Slot>,
    plan_at: Moment,
    /// When to ask for more members that offer what is led here.
    candidates_at: Moment,
    layers: Layers,
    /// The way back to this loop for what it starts.
    commands: mpsc::UnboundedSender<Command>,
    todo: VecDeque<Todo>,
    is_over: bool,
}

impl Driver {
    pub(crate) fn new(
        book: Book,
        peers: Peers,
        member: Option<Membership>,
        stage: Stage,
        compute: Jobs<Job>,
        layers: Layers,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self {
            me: book.me(),
            start: Instant::now(),
            book,
            peers,
            member,
            links: Links::default(),
            gossip: Gossip::default(),
            stage,
            compute,
            holdings: BTreeMap::new(),
            speeds: BTreeMap::new(),
            state: MemberState::Active,
            rests: Vec::new(),
            offered: Vec::new(),
            slots: BTreeMap::new(),
            plan_at: Moment(0),
            candidates_at: Moment(0),
            layers,
            commands,
            todo: VecDeque::new(),
            is_over: false,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::Receiver<NetEvent>,
    ) {
        let mut tick_at = tokio::time::Instant::now();
        self.introduce();
        while !self.is_over {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => self.command(command),
                },
                Some(event) = events.recv() => self.net(event),
                () = tokio::time::sleep_until(tick_at) => {
                    self.tick();
                    tick_at = tokio::time::Instant::now() + TICK_IDLE;
                }
            }
            self.settle();
            if self.slots.values().any(Slot::is_busy) {
                tick_at = tick_at.min(tokio::time::Instant::now() + TICK);
            }
        }
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Submit(submit) = command {
                submit.asked.turn_away();
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Does what the event left behind.
    fn settle(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Own(incoming) => self.arrived(self.me, incoming),
                Todo::Lost(peer, why) => self.lost(peer, &why),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Load { loaded, width, arithmetic, cache_tokens, speed } => {
                self.speeds.insert(loaded.package, speed);
                self.load(loaded, width, arithmetic, cache_tokens);
                // Somebody may wait for just these.
                self.announce();
            }
            Command::StartRing { ring, slot } => {
                if let Way::Fixed(plan) = &slot.way {
                    plan.peers().for_each(|peer| self.book.note(peer));
                }
                self.slots.insert(ring, *slot);
            }
            Command::EndRing(ring) => {
                let live = self.slots.get(&ring).map(Slot::live).unwrap_or_default();
                for request in live {
                    self.fail(ring, request, GenerateError::ShuttingDown);
                }
                self.slots.remove(&ring);
            }
            Command::Submit(submit) => self.submit(*submit),
            Command::Cancel { ring, request } => self.head(ring, HeadEvent::Abort(request)),
            Command::Computed(outputs) => self.stage(StageEvent::Computed(outputs)),
            Command::Head { ring, output } => match output {
                HeadOutput::Frame { to, frame } => self.send(to, Outgoing::Frame(frame)),
                HeadOutput::Sampled { request, token, is_last } => {
                    self.head(ring, HeadEvent::Sampled { request, token, is_last });
                }
                HeadOutput::Abort(request) => self.head(ring, HeadEvent::Abort(request)),
            },
            Command::Kept { then, is_kept } => self.kept(then, is_kept),
            Command::Do(action) => action(self),
            Command::Layers(event) => self.layers(*event),
            Command::Stop => self.is_over = true,
        }
    }

    fn load(&mut self, loaded: Box<Loaded>, width: u32, arithmetic: u16, cache_tokens: u32) {
        let (package, layers) = (loaded.package, loaded.layers);
        let holding = self.holding(package, width, arithmetic);
        holding.loaded.push(layers);
        holding.held.push(layers);
        holding.cache_token_layers += u64::from(cache_tokens) * u64::from(layers.count());
        let holding = Some(holding.clone());
        self.job(Job::Load(loaded));
        self.stage(StageEvent::Holding { package, holding });
    }

    fn holding(&mut self, package: PackageId, width: u32, arithmetic: u16) -> &mut Holding {
        self.holdings.entry(package).or_insert_with(|| Holding {
            arithmetic,
            width,
            loaded: Vec::new(),
            held: Vec::new(),
            cache_token_layers: 0,
        })
    }

    /// Layers that are on the disk and are loaded when a head asks for them.
    pub(crate) fn hold(
        &mut self,
        package: PackageId,
        width: u32,
        arithmetic: u16,
        layers: &[LayerRange],
    ) {
        let holding = self.holding(package, width, arithmetic);
        holding.held.extend_from_slice(layers);
        holding.held = about::joined::<RANGES_MAX>(&holding.held).to_vec();
        let holding = Some(holding.clone());
        self.stage(StageEvent::Holding { package, holding });
        self.announce();
    }

    /// Tells the thread that computes. It ends after this loop does.
    fn job(&self, job: Job) {
        let _ = self.compute.send(job);
    }

    fn submit(&mut self, submit: Submit) {
        let Submit { ring, request, tokens, asked } = submit;
        let now = self.now();
        let Some(slot) = self.slots.get_mut(&ring) else {
            return asked.turn_away();
        };
        let tokens_max = asked.answer.limit();
        slot.begin(request, asked);
        let submission = Submission { request, tokens, tokens_max };
        let mut out = Vec::new();
        let event = HeadEvent::Submit(submission);
        let members = (self.book.members(), self.me);
        if let Err(error) = slot.handle(event, now, members, &mut out) {
            slot.refuse(request, error);
        }
        self.head_effects(ring, out);
    }

    /// Ends a request with an error of this node.
    fn fail(&mut self, ring: RingId, request: RequestId, error: GenerateError) {
        if let Some(slot) = self.slots.get_mut(&ring) {
            slot.reason(request, error);
            self.head(ring, HeadEvent::Abort(request));
        }
    }

    fn net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { connection, is_ours } => {
                let peer = connection.peer();
                if !self.enters(&connection, is_ours) {
                    connection.split().0.turn_away(FaultCode::Forbidden);
                    if is_ours && self.peers.unreachable(peer) {
                        let why = "is no member of this swarm".to_owned();
                        self.todo.push_back(Todo::Lost(peer, why));
                    }
                    return;
                }
                let seen = connection.hello().revocation;
                self.peers.connected(*connection);
                self.welcome(peer, seen);
            }
            NetEvent::Unreachable { peer, error } => {
                if self.peers.unreachable(peer) {
                    self.todo.push_back(Todo::Lost(peer, error.to_string()));
                }
            }
            NetEvent::Arrived { peer, incoming } => self.arrived(peer, incoming),
            NetEvent::Lost { peer, link, error } => {
                if self.peers.lost(peer, link) {
                    self.todo.push_back(Todo::Lost(peer, error.to_string()));
                }
            }
        }
    }

    fn lost(&mut self, peer: NodeId, why: &str) {
        self.part(peer);
        self.stage(StageEvent::PeerLost(peer));
        self.layers_lost(peer, why);
        let rings: Vec<RingId> = self.slots.keys().copied().collect();
        for ring in rings {
            if let Some(slot) = self.slots.get_mut(&ring) {
                slot.note(peer, why);
            }
            self.head(ring, HeadEvent::PeerLost(peer));
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        for peer in self.peers.overdue(now) {
            self.todo.push_back(Todo::Lost(peer, "its address is not known".to_owned()));
        }
        self.tick_member();
        self.announce();
        self.stage(StageEvent::Tick);
        self.plan(now);
        self.layers(LayersEvent::Tick);
        let rings: Vec<RingId> = self.slots.keys().copied().collect();
        for ring in rings {
            self.head(ring, HeadEvent::Tick);
            let hopeless = self.slots.get_mut(&ring).and_then(|slot| slot.hopeless(now));
            for (request, error) in hopeless.into_iter().flatten() {
                self.fail(ring, request, error);
            }
        }
    }

    fn stage(&mut self, event: StageEvent) {
        let mut out = Vec::new();
        self.stage.handle(event, self.now(), &mut out);
        for effect in out {
            match effect {
                StageEffect::Send { to, message } => self.send(to, Outgoing::Message(message)),
                StageEffect::SendFrame { to, frame } => self.send(to, Outgoing::Frame(frame)),
                StageEffect::Compute(batch) => self.job(Job::Compute(batch)),
                StageEffect::Forget { ring, request } => {
                    if request.is_none() {
                        self.book.forget_route(ring);
                    }
                    self.job(Job::Forget { ring, request });
                }
            }
        }
    }

    fn head(&mut self, ring: RingId, event: HeadEvent) {
        let now = self.now();
        let Some(slot) = self.slots.get_mut(&ring) else {
            return;
        };
        let mut out = Vec::new();
        let taken = slot.handle(event, now, (self.book.members(), self.me), &mut out);
        debug_assert!(taken.is_ok(), "only submissions are refused");
        self.head_effects(ring, out);
    }

    fn head_effects(&mut self, ring: RingId, effects: Vec<HeadEffect>) {
        for effect in effects {
            let job = match effect {
                HeadEffect::Send { to, message } => {
                    if let Message::LeaseRequest(request) = &*message {
                        if let Some(slot) = self.slots.get_mut(&ring) {
                            slot.ask(to);
                        }
                        self.introduce_route(to, request);
                    }
                    self.send(to, Outgoing::Message(message));
                    continue;
                }
                HeadEffect::SendFrame { to, frame } => {
                    self.send(to, Outgoing::Frame(frame));
                    continue;
                }
                HeadEffect::SendRows { to, header, tokens } => HeadJob::Rows { to, header, tokens },
                HeadEffect::Sample { request, position, row, .. } => {
                    HeadJob::Sample { request, position, row }
                }
                // The client had it from the thread that chose it.
                HeadEffect::Token { .. } => continue,
                HeadEffect::Finished { request, failure } => {
                    if let Some(slot) = self.slots.get_mut(&ring) {
                        slot.finished(request, failure);
                    }
                    continue;
                }
            };
            if let Some(slot) = self.slots.get(&ring) {
                slot.job(job);
            }
        }
        if let Some(slot) = self.slots.get(&ring) {
            slot.publish();
        }
    }

    /// Tells a stage where the others of its route are: gossip, which has a bound, may not have
    /// brought it there.
    fn introduce_route(&mut self, to: NodeId, request: &LeaseRequest) {
        let (me, stages) = (self.me, request.route.stages.iter());
        let nodes = stages.flat_map(|stage| [Some(stage.node), stage.shadow]).flatten();
        for node in nodes.filter(|node| ![to, me].contains(node)) {
            if let Some(signed) = self.book.members().signed(node).cloned() {
                self.send_message(to, Message::Descriptor(signed));
            }
        }
    }

    fn send_message(&mut self, to: NodeId, message: Message) {
        self.send(to, Outgoing::Message(Box::new(message)));
    }

    fn send(&mut self, to: NodeId, what: Outgoing) {
        if to == self.me {
            self.todo.push_back(Todo::Own(match what {
                Outgoing::Message(message) => Incoming::Message(message),
                Outgoing::Frame(frame) => Incoming::Frame(frame),
            }));
            return;
        }
        let address = self.book.address(to);
        let why = match self.peers.send(to, what, address, self.now()) {
            Ok(()) => return,
            Err(Unsent::Net(error)) => error.to_string(),
            Err(Unsent::Full) => "too much waits for it".to_owned(),
        };
        self.peers.give_up(to, None);
        self.todo.push_back(Todo::Lost(to, why));
    }
}
