//! A swarm on loopback: tickets, certificates, plans, revocation, each with real sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use shoal_model::package::Package;
use shoal_node::{
    HeadOptions, JoinError, Node, NodeError, NodeId, RingHead, ServeOptions, SwarmRole, SwarmView,
    create_swarm, join_swarm,
};
use shoal_store::NodeFolder;
use shoal_swarm::StageConfig;
use shoal_wire::LayerRange;

use crate::support::{LAYERS, answer, expected, local, package, range, requests, together};

const HOUR: Duration = Duration::from_secs(3600);
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn folder(home: &Path) -> NodeFolder {
    NodeFolder::take(home).expect("it can be made").expect("nobody else has it")
}

/// The owner's node, running.
pub(crate) fn owner(home: &Path) -> Node {
    let folder = folder(home);
    if !NodeFolder::is_member(home) {
        create_swarm(&folder, "home").expect("it is made");
    }
    member(folder)
}

pub(crate) fn member(folder: NodeFolder) -> Node {
    Node::start_member(folder, local(), StageConfig::default()).expect("it starts")
}

pub(crate) fn invite(inviter: &Node, role: SwarmRole) -> String {
    inviter.invite(role, &[], HOUR).expect("it may")
}

/// A new member with this role, running.
pub(crate) fn joined(home: &Path, inviter: &Node, role: SwarmRole) -> Node {
    let folder = folder(home);
    join_swarm(&folder, &invite(inviter, role), "", local()).expect("the ticket is good");
    member(folder)
}

pub(crate) fn serve(node: &Node, package: &Package, layers: LayerRange) {
    let options = ServeOptions { threads: 1, ..ServeOptions::default() };
    node.serve(package, layers, options).expect("the package has them");
}

pub(crate) fn lead(node: &Node, package: &Package, patience: Duration) -> RingHead {
    let mut options = HeadOptions { threads: 1, patience, ..HeadOptions::default() };
    options.policy.frame_rows = 40;
    node.lead(package, "tiny", options).expect("it leads")
}

/// Waits until a node sees its swarm so.
#[track_caller]
pub(crate) fn until(node: &Node, what: &str, is_so: impl Fn(&SwarmView) -> bool) {
    let started = Instant::now();
    loop {
        let view = node.swarm().expect("it is a member");
        if is_so(&view) {
            return;
        }
        assert!(started.elapsed() < WAIT_MAX, "{what}: {view:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn id(node: &Node) -> NodeId {
    node.address().node
}

#[test]
fn layers_of_members_are_found_by_the_planner_and_answer_as_one_process_does() {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let package = package(1);
    let expected = expected(&package);
    let a = owner(homes[0].path());
    let b = joined(homes[1].path(), &a, SwarmRole::Serve);
    let c = joined(homes[2].path(), &a, SwarmRole::Serve);
    serve(&b, &package, range(0, 3));
    serve(&c, &package, range(2, LAYERS));
    let head = lead(&a, &package, WAIT_MAX);
    let started = Instant::now();
    while head.status().plan.is_none() {
        assert!(started.elapsed() < WAIT_MAX, "{:?}", head.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(together(&head), expected);
    let status = head.status();
    let nodes: Vec<NodeId> = status.stages.iter().map(|stage| stage.node).collect();
    assert_eq!(nodes, [id(&b), id(&c)], "{status:?}");
    let plan = status.plan.expect("there is one");
    assert!(plan.stages.iter().all(|stage| stage.compute_s > 0.0), "measured: {plan:?}");
    until(&a, "links are measured", |view| {
        let others = view.members.iter().filter(|member| !member.is_me);
        others.filter(|member| member.round_trip.is_some()).count() == 2
    });
    // A member that starts again is found again, and so is the owner.
    drop(c);
    let c = member(folder(homes[2].path()));
    serve(&c, &package, range(2, LAYERS));
    let again = answer(&head, requests()[1].clone());
    assert_eq!(again.as_ref(), Ok(&expected[1]));
    drop((head, a));
    let a = owner(homes[0].path());
    let head = lead(&a, &package, WAIT_MAX);
    let again = answer(&head, requests()[2].clone());
    assert_eq!(again.as_ref(), Ok(&expected[2]));
}

#[test]
fn a_ticket_that_was_used_stays_used_when_its_signer_starts_again() {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let a = owner(homes[0].path());
    let ticket = invite(&a, SwarmRole::Use);
    let (first, second) = (folder(homes[1].path()), folder(homes[2].path()));
    join_swarm(&first, &ticket, "", local()).expect("the first");
    let refused = join_swarm(&second, &ticket, "", local());
    assert!(matches!(refused, Err(NodeError::Join(JoinError::Used))), "{refused:?}");
    let address = a.address().sockets[0];
    drop(a);
    let folder = folder(homes[0].path());
    let a = Node::start_member(folder, address, StageConfig::default()).expect("it starts");
    let refused = join_swarm(&second, &ticket, "", local());
    assert!(matches!(refused, Err(NodeError::Join(JoinError::Used))), "{refused:?}");
    let again = join_swarm(&first, &invite(&a, SwarmRole::Use), "", local());
    assert!(matches!(again, Err(NodeError::Member { .. })), "{again:?}");
}
