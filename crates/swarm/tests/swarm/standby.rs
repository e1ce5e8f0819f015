//! A head whose stages die: spares that have to load layers first, and shadows that do not answer.

use std::time::Duration;

use shoal_base::TokenId;
use shoal_swarm::{
    Head, HeadEffect, HeadEvent, HeadPolicy, Moment, Scout, Shadows, Submission, limits,
};
use shoal_wire::{
    Duty, GenerationId, LayerRange, LeaseGrant, LeaseRefusal, LeaseRequest, Message, NodeId,
    PrepareState, PrepareStatus, RefusalReason, RequestId, RingId, RouteStage,
};

use crate::support::model;

const MS: Duration = Duration::from_millis(1);
const HEAD: NodeId = NodeId([9; 32]);
const FIRST: NodeId = NodeId([1; 32]);
const SECOND: NodeId = NodeId([2; 32]);
const SPARE: NodeId = NodeId([3; 32]);

/// Two stages, and a spare for the second one.
struct Plan;

fn second() -> LayerRange {
    LayerRange { first: 12, end: model().layer_count }
}

impl Scout for Plan {
    fn route(&mut self, excluded: &[NodeId]) -> Option<Vec<RouteStage>> {
        let stage = |node, layers| RouteStage { node, layers, shadow: None };
        let first = stage(FIRST, LayerRange { first: 0, end: 12 });
        (!excluded.contains(&SECOND)).then(|| vec![first, stage(SECOND, second())])
    }

    fn spare(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        (layers == second() && !excluded.contains(&SPARE)).then_some(SPARE)
    }

    fn stand_by(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        self.spare(layers, excluded)
    }
}

/// A head, and what it sent.
struct Scene {
    head: Head,
    now: Moment,
    sent: Vec<(NodeId, Message)>,
    rows: Vec<NodeId>,
}

impl Scene {
    /// A request of so many tokens is under way.
    fn new(shadows: Shadows, tokens: usize) -> Self {
        let policy = HeadPolicy { shadows, ..HeadPolicy::default() };
        let head = Head::new(HEAD, RingId([7; 16]), model(), policy);
        let mut scene = Self { head, now: Moment(0), sent: Vec::new(), rows: Vec::new() };
        let tokens = vec![TokenId(1); tokens];
        let submission = Submission { request: RequestId(0), tokens, tokens_max: 8 };
        scene.event(HeadEvent::Submit(submission));
        scene
    }

    fn event(&mut self, event: HeadEvent) {
        let mut out = Vec::new();
        self.head.handle(event, self.now, &mut Plan, &mut out).expect("it fits");
        for effect in out {
            match effect {
                HeadEffect::Send { to, message } => self.sent.push((to, *message)),
                HeadEffect::SendRows { to, .. } => self.rows.push(to),
                HeadEffect::Finished { failure, .. } => panic!("it failed: {failure:?}"),
                _ => {}
            }
        }
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        self.event(HeadEvent::Message { from, message: Box::new(message) });
    }

    /// Time passes, with a tick when one is due and at least every 50 ms.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + 50 * MS;
            self.event(HeadEvent::Tick);
        }
    }

    /// The requests for leases since last asked, and who is to prepare.
    fn asked(&mut self) -> (Vec<(NodeId, LeaseRequest)>, Vec<NodeId>) {
        let (mut leases, mut prepares) = (Vec::new(), Vec::new());
        for (to, message) in self.sent.drain(..) {
            match message {
                Message::LeaseRequest(request) => leases.push((to, request)),
                Message::Prepare(prepare) => {
                    assert_eq!((prepare.package, prepare.layers), (model().package, second()));
                    prepares.push(to);
                }
                _ => {}
            }
        }
        (leases, prepares)
    }

    /// All of these grant, and renew from now on.
    fn grant(&mut self, leases: &[(NodeId, LeaseRequest)]) {
        for (from, request) in leases {
            self.hear(*from, granted(request));
        }
    }

    fn refuse(&mut self, from: NodeId, reason: RefusalReason) {
        let generation = self.head.generation();
        self.hear(
            from,
            Message::LeaseRefusal(LeaseRefusal {
                ring: RingId([7; 16]),
                generation,
                reason,
                generation_seen: GenerationId(0),
                retry_after_ms: 0,
            }),
        );
    }

    fn prepares(&mut self, state: PrepareState) {
        let package = model().package;
        let status = PrepareStatus { package, layers: second(), state, bytes_left: 0 };
        self.hear(SPARE, Message::PrepareStatus(status));
    }
}

fn granted(request: &LeaseRequest) -> Message {
    Message::LeaseGrant(LeaseGrant {
        ring: request.ring,
        generation: request.generation,
        stage: request.stage,
        admission: request.admission,
        ttl_ms: request.ttl_ms,
    })
}

fn nodes(leases: &[(NodeId, LeaseRequest)]) -> Vec<NodeId> {
    leases.iter().map(|(node, _)| *node).collect()
}

/// A ring in use whose second stage has just been lost; the leases asked for then.
fn bereft(shadows: Shadows) -> (Scene, Vec<(NodeId, LeaseRequest)>) {
    let mut scene = Scene::new(shadows, 100);
    let (leases, _) = scene.asked();
    scene.grant(&leases);
    scene.event(HeadEvent::PeerLost(SECOND));
    let (leases, _) = scene.asked();
    assert_eq!(nodes(&leases), [FIRST, SPARE]);
    (scene, leases)
}

#[test]
fn a_spare_stands_by_before_anybody_dies() {
    let mut scene = Scene::new(Shadows::Never, 100);
    let (leases, prepares) = scene.asked();
    assert_eq!((nodes(&leases), prepares), (vec![FIRST, SECOND], vec![]));
    scene.grant(&leases);
    scene.wait(50 * MS);
    assert_eq!(scene.asked().1, [SPARE]);
    scene.prepares(PrepareState::Ready);
    scene.wait(250 * MS);
    assert!(scene.asked().1.is_empty(), "once is enough");
}

#[test]
fn a_spare_that_has_to_load_is_waited_for_and_the_request_goes_on() {
    let (mut scene, leases) = bereft(Shadows::Never);
    scene.hear(FIRST, granted(&leases[0].1));
    scene.refuse(SPARE, RefusalReason::Loading);
    assert_eq!(scene.asked(), (vec![], vec![SPARE]), "it is told to load");
    for _ in 0..4 {
        scene.prepares(PrepareState::Loading);
        scene.wait(limits::PREPARE_SILENT - 100 * MS);
        assert_eq!(scene.asked(), (vec![], vec![]), "nobody else is looked for");
    }
    scene.rows.clear();
    scene.prepares(PrepareState::Ready);
    let (again, _) = scene.asked();
    assert_eq!(nodes(&again), [SPARE]);
    assert_eq!(again[0].1, leases[1].1, "the same request as before");
    scene.grant(&again);
    assert!(scene.head.status().is_ready);
    assert_eq!(scene.rows, [FIRST]);
}

#[test]
fn a_spare_that_says_nothing_or_will_not_is_left_out() {
    for state in [None, Some(PrepareState::Refused)] {
        let (mut scene, leases) = bereft(Shadows::Never);
        scene.hear(FIRST, granted(&leases[0].1));
        scene.refuse(SPARE, RefusalReason::NotHeld);
        match state {
            Some(state) => scene.prepares(state),
            None => scene.wait(limits::PREPARE_SILENT + 100 * MS),
        }
        assert!(scene.head.status().stages.is_empty(), "there is no way any more");
    }
    // Whoever says that it is ready and still refuses is not asked for ever.
    let (mut scene, leases) = bereft(Shadows::Never);
    scene.hear(FIRST, granted(&leases[0].1));
    scene.refuse(SPARE, RefusalReason::Loading);
    scene.prepares(PrepareState::Ready);
    scene.refuse(SPARE, RefusalReason::Loading);
    assert!(scene.head.status().stages.is_empty());
}

#[test]
fn shadows_are_for_requests_that_may_become_long() {
    let duties = |tokens| {
        let mut scene = Scene::new(Shadows::Long, tokens);
        let leases = scene.asked().0;
        leases.iter().filter(|(_, request)| request.duty == Duty::Shadow).count()
    };
    let most = limits::SHADOW_TOKENS as usize;
    assert_eq!((duties(100), duties(most)), (0, 1));
    // A long one after a short one: the ring gets its shadow before the first row.
    let mut scene = Scene::new(Shadows::Long, 100);
    let leases = scene.asked().0;
    scene.grant(&leases);
    scene.rows.clear();
    let tokens = vec![TokenId(1); most];
    let submission = Submission { request: RequestId(1), tokens, tokens_max: 8 };
    scene.event(HeadEvent::Submit(submission));
    let leases = scene.asked().0;
    assert_eq!(nodes(&leases), [FIRST, SECOND, SPARE]);
    assert!(scene.rows.is_empty());
    scene.grant(&leases);
    assert!(scene.head.status().is_ready && !scene.rows.is_empty());
}

#[test]
fn a_shadow_that_does_not_answer_is_left_out_of_the_route() {
    for refuses in [false, true] {
        let mut scene = Scene::new(Shadows::Always, 100);
        let leases = scene.asked().0;
        assert_eq!(nodes(&leases), [FIRST, SECOND, SPARE]);
        scene.grant(&leases[..2]);
        assert!(!scene.head.status().is_ready, "it waits for a moment");
        match refuses {
            true => scene.refuse(SPARE, RefusalReason::Memory),
            false => scene.wait(limits::SHADOW_ANSWER + 50 * MS),
        }
        let leases = scene.asked().0;
        assert_eq!(nodes(&leases), [FIRST, SECOND]);
        assert!(leases.iter().all(|(_, r)| r.route.stages.iter().all(|s| s.shadow.is_none())));
        scene.grant(&leases);
        assert!(scene.head.status().is_ready);
        assert_eq!(scene.head.status().replaced, 0);
    }
}
