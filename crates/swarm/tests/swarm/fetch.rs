//! Fetching from peers of all kinds, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shoal_base::Digest;
use shoal_swarm::limits::{FETCH_LEAVES_MAX, UPLOAD_WANTED_MAX};
use shoal_swarm::{
    Fetch, FetchEffect, FetchEvent, FetchFailure, Misdeed, Moment, Random as _, StoreOutcome,
    UploadEffect, UploadEvent, Uploads, WantedBlob,
};
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{
    BlobData, BlobLeaves, BlobRange, BlobRequest, Bytes, FaultCode, LeafSet, List, Message, NodeId,
    blob_root, leaf_bytes, leaf_count,
};

use crate::support::Seeded;

/// First byte of a leaf that is right.
const RIGHT: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Has some of the leaves.
    Partial,
    /// Sends other bytes than it should.
    Garbage,
    /// Sends leaves of another length.
    Short,
    /// A list of leaves that is not that of the blob.
    WrongList,
    /// A list that hashes to the name, of fewer and longer leaves.
    WrongLength,
    /// Says that it has all and sends nothing.
    Silent,
    /// Answers nothing at all.
    Dead,
    /// Has nothing.
    Absent,
    /// Sends what nobody asked for.
    Pushy,
}

impl Kind {
    fn is_liar(self) -> bool {
        matches!(
            self,
            Self::Garbage | Self::Short | Self::WrongList | Self::WrongLength | Self::Pushy
        )
    }
}

fn node(index: usize) -> NodeId {
    NodeId([index as u8 + 1; 32])
}

#[derive(Clone, Debug)]
struct Blob {
    name: Digest,
    bytes: u64,
    leaves: Vec<Digest>,
}

fn blob(seed: u8, bytes: u64) -> Blob {
    let leaves: Vec<_> =
        (0..leaf_count(bytes)).map(|leaf| Digest::of(&[seed, leaf as u8])).collect();
    Blob { name: blob_root(&leaves).expect("there is a leaf"), bytes, leaves }
}

/// A network in which everything takes a while.
struct World {
    fetch: Fetch,
    kinds: Vec<Kind>,
    blobs: Vec<Blob>,
    now: Moment,
    queue: BTreeMap<(Moment, u64), FetchEvent>,
    sequence: u64,
    random: Seeded,
    /// Time per leaf of each peer, and when it is free.
    pace_us: Vec<u64>,
    free_at: Vec<Moment>,
    kept: BTreeSet<Digest>,
    stored: BTreeSet<(Digest, u32)>,
    blamed: BTreeMap<NodeId, Misdeed>,
    end: Option<Result<(), FetchFailure>>,
}

impl World {
    fn new(kinds: &[Kind], blobs: Vec<Blob>, wants: Vec<WantedBlob>, seed: u64) -> Self {
        let nodes: Vec<NodeId> = (0..kinds.len()).map(node).collect();
        let mut random = Seeded(seed);
        let pace_us = kinds.iter().map(|_| 1000 << random.below(9)).collect();
        Self {
            fetch: Fetch::new(wants, &nodes, Moment(0)),
            kinds: kinds.to_vec(),
            blobs,
            now: Moment(0),
            queue: BTreeMap::new(),
            sequence: 0,
            random,
            pace_us,
            free_at: vec![Moment(0); kinds.len()],
            kept: BTreeSet::new(),
            stored: BTreeSet::new(),
            blamed: BTreeMap::new(),
            end: None,
        }
    }

    fn at(&mut self, at: Moment, event: FetchEvent) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn after(&mut self, us: u64, event: FetchEvent) {
        self.at(self.now + Duration::from_micros(us), event);
    }

    fn run(mut self) -> Self {
        self.after(0, FetchEvent::Tick);
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if matches!(event, FetchEvent::Tick) && self.end.is_none() {
                self.after(500_000, FetchEvent::Tick);
            }
            if let FetchEvent::PeerLost(lost) = event {
                // What was on the way is lost with the connection.
                self.queue.retain(|_, event| match event {
                    FetchEvent::Data { from, .. } | FetchEvent::Leaves { from, .. } => {
                        *from != lost
                    }
                    _ => true,
                });
            }
            assert!(self.now < Moment(3_600_000_000), "it ends within an hour");
            let mut out = Vec::new();
            self.fetch.handle(event, self.now, &mut out);
            for effect in out {
                assert_eq!(self.end, None, "nothing comes after the end: {effect:?}");
                self.effect(effect);
            }
            let asked: usize = (0..self.kinds.len()).map(|peer| self.fetch.owed(node(peer))).sum();
            let lost: usize = self.kinds.len() * FETCH_LEAVES_MAX;
            assert!(asked <= FETCH_LEAVES_MAX + lost, "{asked} leaves");
        }
        self
    }

    fn effect(&mut self, effect: FetchEffect) {
        match effect {
            FetchEffect::Send { to, message } => self.ask(usize::from(to.0[0]) - 1, *message),
            FetchEffect::Open { blob, .. } => self.stored.retain(|(of, _)| *of != blob),
            FetchEffect::Store { from, blob, leaf, data } => {
                let is_right = data.first() == Some(&RIGHT);
                let outcome = if is_right { StoreOutcome::Kept } else { StoreOutcome::Wrong };
                if is_right {
                    assert!(self.stored.insert((blob, leaf)), "a leaf is written once");
                }
                self.after(300, FetchEvent::Stored { from, blob, leaf, outcome });
            }
            FetchEffect::Keep(blob) => {
                assert!(self.kept.insert(blob), "a blob is kept once");
                self.after(5000, FetchEvent::Kept(blob));
            }
            FetchEffect::Blamed { peer, misdeed } => {
                assert!(self.blamed.insert(peer, misdeed).is_none(), "once is enough");
            }
            FetchEffect::Finished => self.end = Some(Ok(())),
            FetchEffect::Failed(failure) => self.end = Some(Err(failure)),
        }
    }

    fn ask(&mut self, peer: usize, message: Message) {
        let (from, kind) = (node(peer), self.kinds[peer]);
        assert!(!self.blamed.contains_key(&from), "who lied is asked no more");
        if kind == Kind::Dead {
            return;
        }
        if self.random.below(40) == 0 && kind == Kind::Honest {
            return self.after(2000, FetchEvent::PeerLost(from));
        }
        match message {
            Message::BlobQuery(query) => {
                let blob = self.blobs.iter().find(|blob| blob.name == query.blob).cloned();
                let blob = blob.expect("only what is wanted is asked for");
                let event = self.answer(kind, from, &blob);
                self.after(20_000, event);
            }
            Message::BlobRequest(request) => {
                let blob = self.blobs.iter().find(|blob| blob.name == request.blob).cloned();
                let blob = blob.expect("only what is wanted is asked for");
                let leaves = request.ranges.iter().flat_map(|r| r.first..r.first + r.count);
                for leaf in leaves.collect::<Vec<_>>() {
                    self.send(peer, &blob, leaf);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, kind: Kind, from: NodeId, blob: &Blob) -> FetchEvent {
        let count = blob.leaves.len() as u32;
        let (mut bytes, mut leaves) = (blob.bytes, blob.leaves.clone());
        let mut held = LeafSet::full(count);
        match kind {
            Kind::Absent => return FetchEvent::Absent { from, blob: blob.name },
            Kind::Partial => {
                for leaf in 0..count {
                    if self.random.below(2) == 0 {
                        held.remove(leaf);
                    }
                }
            }
            Kind::WrongList => leaves[0] = Digest([9; 32]),
            Kind::WrongLength if count > 1 => (bytes, leaves) = coarse(blob),
            Kind::WrongLength => bytes += 1,
            _ => {}
        }
        let held = LeafSet::of(leaves.len() as u32, &held.ranges()).ranges();
        let leaves = List::try_new(leaves).expect("short");
        FetchEvent::Leaves { from, leaves: BlobLeaves { blob: blob.name, bytes, leaves, held } }
    }

    fn send(&mut self, peer: usize, blob: &Blob, leaf: u32) {
        let (from, kind) = (node(peer), self.kinds[peer]);
        if kind == Kind::Silent {
            return;
        }
        let length = leaf_bytes(blob.bytes, leaf) as usize;
        let is_wrong = kind == Kind::Garbage && self.random.below(3) == 0;
        let length = if kind == Kind::Short { length - 1 } else { length };
        let bytes = vec![if is_wrong { 0 } else { RIGHT }; length];
        let leaf = if kind == Kind::Pushy { leaf + 1000 } else { leaf };
        let bytes = Bytes::try_new(bytes).expect("at most a leaf");
        let pace = Duration::from_micros(self.pace_us[peer]);
        let at = self.free_at[peer].max(self.now) + pace;
        self.free_at[peer] = at;
        let data = BlobData { blob: blob.name, leaf, bytes };
        self.at(at, FetchEvent::Data { from, data });
    }
}

/// The two halves of the tree as if they were leaves: what a liar could say of a longer blob.
fn coarse(blob: &Blob) -> (u64, Vec<Digest>) {
    (LEAF_BYTES + 5, blob.leaves[..2].to_vec())
}

fn wants(blobs: &[Blob]) -> Vec<WantedBlob> {
    let want = |blob: &Blob| WantedBlob {
        blob: blob.name,
        bytes: Some(blob.bytes),
        bytes_max: blob.bytes,
        held: None,
    };
    blobs.iter().map(want).collect()
}

fn some_blobs() -> Vec<Blob> {
    vec![blob(1, 5), blob(2, 3 * LEAF_BYTES + 7), blob(3, 9 * LEAF_BYTES), blob(4, LEAF_BYTES)]
}

const KINDS: [Kind; 10] = [
    Kind::Honest,
    Kind::Partial,
    Kind::Garbage,
    Kind::Short,
    Kind::WrongList,
    Kind::WrongLength,
    Kind::Silent,
    Kind::Dead,
    Kind::Absent,
    Kind::Pushy,
];

#[test]
fn one_honest_peer_is_enough_whoever_the_others_are() {
    for seed in 0..60 {
        let mut random = Seeded(seed);
        let count = 1 + random.below(7) as usize;
        let mut kinds: Vec<Kind> = (0..count).map(|_| KINDS[random.below(10) as usize]).collect();
        kinds.push(Kind::Honest);
        let blobs = some_blobs();
        let world = World::new(&kinds, blobs.clone(), wants(&blobs), seed).run();
        assert_eq!(world.end, Some(Ok(())), "seed {seed}: {kinds:?} {:?}", world.blamed);
        assert_eq!(world.kept.len(), blobs.len(), "seed {seed}");
        for (peer, misdeed) in &world.blamed {
            let kind = kinds[usize::from(peer.0[0]) - 1];
            assert!(kind.is_liar(), "seed {seed}: {kind:?} was blamed for {misdeed:?}");
        }
    }
}

#[test]
fn an_unknown_length_is_believed_of_one_peer_at_a_time() {
    // The first peer says that the blob is shorter; its list hashes to the name.
    let long = blob(7, 2 * LEAF_BYTES);
    for kinds in [
        [Kind::WrongLength, Kind::Honest],
        [Kind::Garbage, Kind::Honest],
        [Kind::Silent, Kind::Honest],
        [Kind::Absent, Kind::Honest],
        [Kind::Dead, Kind::Honest],
    ] {
        let want = WantedBlob { blob: long.name, bytes: None, bytes_max: 8 << 20, held: None };
        let mut world = World::new(&kinds, vec![long.clone()], vec![want], 3);
        if kinds[0] == Kind::Garbage {
            // Every leaf it sends is wrong.
            world.random = Seeded(3);
        }
        let world = world.run();
        assert_eq!(world.end, Some(Ok(())), "{kinds:?}: {:?}", world.blamed);
        assert!(!world.blamed.contains_key(&node(1)), "{kinds:?}: {:?}", world.blamed);
    }
}

#[test]
fn what_is_held_is_not_fetched_again() {
    let blobs = some_blobs();
    let mut wants = wants(&blobs);
    let mut held = LeafSet::full(9);
    held.remove(4);
    wants[2].held = Some((held, blobs[2].leaves.clone()));
    let world = World::new(&[Kind::Honest], blobs.clone(), wants, 1).run();
    assert_eq!(world.end, Some(Ok(())));
    let of_third: Vec<u32> =
        world.stored.iter().filter(|(of, _)| *of == blobs[2].name).map(|(_, leaf)| *leaf).collect();
    assert_eq!(of_third, [4]);
}

#[test]
fn without_anybody_who_has_it_a_fetch_ends() {
    let blobs = some_blobs();
    for (kinds, failure) in [
        (vec![], FetchFailure::NoPeers),
        (vec![Kind::Dead, Kind::Silent], FetchFailure::NoPeers),
        (vec![Kind::WrongList], FetchFailure::NoPeers),
        (vec![Kind::Absent, Kind::Absent], FetchFailure::NotHeld { blob: blobs[0].name }),
    ] {
        let world = World::new(&kinds, blobs.clone(), wants(&blobs), 1).run();
        assert_eq!(world.end, Some(Err(failure)), "{kinds:?}");
    }
    let done = World::new(&[], vec![], vec![], 1).run();
    assert_eq!(done.end, Some(Ok(())), "nothing is missing");
}

fn request(blob: Digest, first: u32, count: u32) -> BlobRequest {
    let ranges = List::try_new(vec![BlobRange { first, count }]).expect("one");
    BlobRequest { blob, ranges }
}

#[test]
fn peers_take_turns_and_a_flood_is_refused() {
    let mut uploads = Uploads::default();
    let name = Digest([1; 32]);
    let mut out = Vec::new();
    let greedy = UploadEvent::Request { from: node(0), request: request(name, 0, 200) };
    uploads.handle(greedy, &mut out);
    let modest = UploadEvent::Request { from: node(1), request: request(name, 0, 3) };
    uploads.handle(modest, &mut out);
    let serves = |out: &[UploadEffect], to: NodeId| {
        out.iter().filter(|e| matches!(e, UploadEffect::Serve { to: t, .. } if *t == to)).count()
    };
    assert_eq!((serves(&out, node(0)), serves(&out, node(1))), (3, 3), "each as much at once");
    let mut served = 0;
    for i in 0..5000 {
        out.clear();
        let flood = request(name, 0, UPLOAD_WANTED_MAX as u32);
        let event = UploadEvent::Request { from: node(0), request: flood };
        uploads.handle(event, &mut out);
        if out.iter().any(|e| matches!(e, UploadEffect::Drop { code: FaultCode::Quota, .. })) {
            served = i;
            break;
        }
        assert_eq!(out, [UploadEffect::Refuse { peer: node(0) }]);
    }
    assert!(served > 0, "a flood ends the connection");
}
