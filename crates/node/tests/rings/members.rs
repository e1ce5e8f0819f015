//! A swarm on loopback: tickets, certificates, plans, revocation, each with real sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use shoal_model::package::Package;
use shoal_net::{Endpoint, EndpointConfig, Incoming, NetError, SecretKey};
use shoal_node::{
    HeadOptions, JoinError, MemberOptions, Node, NodeError, NodeId, RingHead, ServeOptions,
    SwarmRole, SwarmView, create_swarm, join_swarm,
};
use shoal_store::NodeFolder;
use shoal_swarm::{Issuer, NodeKey, own_certificate};
use shoal_wire::{
    CertificateChain, FaultCode, Field as _, JoinRequest, LayerRange, List, MembersQuery, Message,
    Signed, Text, Ticket, TicketId, ticket_from_text, ticket_to_text,
};

use crate::support::{
    LAYERS, answer, collect, expected, local, package, range, requests, start, together,
};

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
    Node::start_member(folder, MemberOptions::new(local())).expect("it starts")
}

pub(crate) fn invite(inviter: &Node, role: SwarmRole) -> String {
    inviter.invite(role, &[], HOUR).expect("it may")
}

/// A new member with this role, running.
pub(crate) fn joined(home: &Path, inviter: &Node, role: SwarmRole) -> Node {
    let folder = folder(home);
    join_swarm(&folder, &invite(inviter, role), "", local(), &[], None)
        .expect("the ticket is good");
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
    join_swarm(&first, &ticket, "", local(), &[], None).expect("the first");
    let refused = join_swarm(&second, &ticket, "", local(), &[], None);
    assert!(matches!(refused, Err(NodeError::Join(JoinError::Used))), "{refused:?}");
    let address = a.address().sockets[0];
    drop(a);
    let folder = folder(homes[0].path());
    let a = Node::start_member(folder, MemberOptions::new(address)).expect("it starts");
    let refused = join_swarm(&second, &ticket, "", local(), &[], None);
    assert!(matches!(refused, Err(NodeError::Join(JoinError::Used))), "{refused:?}");
    let again = join_swarm(&first, &invite(&a, SwarmRole::Use), "", local(), &[], None);
    assert!(matches!(again, Err(NodeError::Member { .. })), "{again:?}");
}

#[test]
fn whoever_the_owner_revokes_is_shut_out_and_nobody_else_notices() {
    let homes: Vec<_> = (0..4).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let package = package(1);
    let expected = expected(&package);
    let a = owner(homes[0].path());
    let b = joined(homes[1].path(), &a, SwarmRole::Serve);
    let c = joined(homes[2].path(), &a, SwarmRole::Serve);
    let d = joined(homes[3].path(), &a, SwarmRole::Use);
    serve(&b, &package, range(0, LAYERS));
    let (ours, theirs) = (lead(&a, &package, WAIT_MAX), lead(&d, &package, WAIT_MAX));
    assert_eq!(answer(&theirs, requests()[0].clone()).as_ref(), Ok(&expected[0]));
    for node in [&b, &c] {
        until(node, "they know each other", |view| view.members.len() == 4);
    }
    let running = start(&ours, requests()[1].clone());
    assert!(matches!(b.revoke(id(&d)), Err(NodeError::Join(_))), "only the owner");
    let revoked = Instant::now();
    assert_eq!(a.revoke(id(&d)).expect("the owner may"), 1);
    for node in [&a, &b, &c] {
        until(node, "the revocation spreads", |view| {
            view.revocation == 1 && view.members.iter().all(|member| member.node != id(&d))
        });
    }
    println!("a revocation took {:?} to reach everybody", revoked.elapsed());
    until(&b, "its lease is over", |view| view.leases <= 1);
    until(&d, "it is alone", |view| {
        view.members.iter().all(|member| member.is_me || !member.is_connected)
    });
    assert_eq!(collect(&running).as_ref(), Ok(&expected[1]), "others go on");
    assert_eq!(together(&ours), expected);
    drop(theirs);
    let hopeless = lead(&d, &package, Duration::from_secs(2));
    let refused = answer(&hopeless, requests()[0].clone());
    assert!(refused.is_err(), "{refused:?}");
    // Neither an old certificate nor a start from the disk lets it in again.
    drop((hopeless, d));
    let d = member(folder(homes[3].path()));
    let hopeless = lead(&d, &package, Duration::from_secs(2));
    assert!(answer(&hopeless, requests()[0].clone()).is_err());
    until(&c, "it did not come back", |view| view.members.len() == 3);
    assert_eq!(answer(&ours, requests()[2].clone()).as_ref(), Ok(&expected[2]));
}

#[test]
fn a_role_allows_what_it_says_and_no_more() {
    let homes: Vec<_> = (0..4).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let package = package(1);
    let a = owner(homes[0].path());
    let user = joined(homes[1].path(), &a, SwarmRole::Use);
    // It computes, but no member has its layers computed by somebody who may only ask.
    serve(&user, &package, range(0, LAYERS));
    let head = lead(&a, &package, Duration::from_secs(2));
    until(&a, "it is here", |view| view.members.iter().any(|member| member.node == id(&user)));
    let error = answer(&head, requests()[0].clone()).expect_err("nobody may compute");
    assert!(error.to_string().contains("no member can hold a layer"), "{error}");
    let refused = user.invite(SwarmRole::Use, &[], HOUR);
    assert!(matches!(refused, Err(NodeError::Join(JoinError::Role { .. }))), "{refused:?}");
    // An inviter gives less than it has, and those it lets in are members like any other.
    let inviter = joined(homes[2].path(), &a, SwarmRole::Invite);
    assert!(inviter.invite(SwarmRole::Invite, &[], HOUR).is_err());
    let below = joined(homes[3].path(), &inviter, SwarmRole::Serve);
    serve(&below, &package, range(0, LAYERS));
    let head = lead(&a, &package, WAIT_MAX);
    assert_eq!(answer(&head, requests()[0].clone()).as_ref(), Ok(&expected(&package)[0]));
}

#[test]
fn a_certificate_for_one_model_opens_no_other() {
    let homes: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let (ours, other) = (package(1), package(2));
    let a = owner(homes[0].path());
    for package in [&ours, &other] {
        serve(&a, package, range(0, LAYERS));
    }
    let ticket = a.invite(SwarmRole::Use, &[ours.id()], HOUR).expect("it may");
    let folder = folder(homes[1].path());
    join_swarm(&folder, &ticket, "", local(), &[], None).expect("the ticket is good");
    let user = member(folder);
    let allowed = lead(&user, &ours, WAIT_MAX);
    assert!(answer(&allowed, requests()[0].clone()).is_ok());
    let forbidden = lead(&user, &other, Duration::from_secs(2));
    let error = answer(&forbidden, requests()[0].clone()).expect_err("not in its certificate");
    assert!(error.to_string().contains("Forbidden"), "{error}");
    assert!(answer(&allowed, requests()[1].clone()).is_ok(), "that changed nothing");
}

#[test]
fn tickets_that_were_changed_stolen_or_are_of_another_swarm_are_refused() {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let (a, other) = (owner(homes[0].path()), owner(homes[1].path()));
    let joiner = folder(homes[2].path());
    let join = |ticket: &Signed<Ticket>| {
        join_swarm(&joiner, &ticket_to_text(ticket), "", local(), &[], None).expect_err("refused")
    };
    let ticket = ticket_from_text(&invite(&a, SwarmRole::Use)).expect("a ticket");
    let mut escalated = ticket.clone();
    escalated.body.role = SwarmRole::Invite;
    assert!(matches!(join(&escalated), NodeError::Join(JoinError::Key(_))));
    // Signed by somebody who may not: well formed, and refused by the one it names.
    let mut forged = ticket.body.clone();
    forged.role = SwarmRole::Invite;
    let forged = NodeKey::new(&[9; 32]).sign(forged);
    assert!(matches!(join(&forged), NodeError::Join(JoinError::OtherIssuer)));
    // Another member is asked than the one that signed.
    let mut moved = ticket.body.clone();
    moved.addresses = List::truncated([Text::try_new(&other.address().to_string()).unwrap()]);
    assert!(matches!(
        join(&Signed { body: moved, ..ticket.clone() }),
        NodeError::Join(JoinError::Key(_))
    ));
    let stale = a.invite(SwarmRole::Use, &[], Duration::ZERO).expect("of no use");
    let stale = ticket_from_text(&stale).expect("a ticket");
    assert!(matches!(join(&stale), NodeError::Join(JoinError::Expired { .. })));
    assert!(matches!(
        join_swarm(&joiner, "shoal1abc", "", local(), &[], None),
        Err(NodeError::Ticket(_))
    ));
    assert!(!NodeFolder::is_member(homes[2].path()), "nothing of that is kept");
    join_swarm(&joiner, &ticket_to_text(&ticket), "", local(), &[], None)
        .expect("the ticket is still good");
}

/// Somebody with a key and what it says first.
async fn stranger(
    seed: u8,
    to: &Node,
    certificate: Option<CertificateChain>,
) -> Result<(shoal_net::Sender, shoal_net::Receiver, Endpoint), NetError> {
    let key = SecretKey::new(&[seed; 32]);
    let endpoint = Endpoint::bind(EndpointConfig::new(key, local())).await?;
    endpoint.introduce(certificate, 0);
    let (sender, receiver) = endpoint.connect(to.address()).await?.split();
    Ok((sender, receiver, endpoint))
}

/// How a connection ends, and what was said before.
async fn end(receiver: &mut shoal_net::Receiver) -> (NetError, Vec<Message>) {
    let mut said = Vec::new();
    loop {
        match receiver.next().await {
            Ok(Incoming::Message(message)) => said.push(*message),
            Ok(Incoming::Frame(_)) => panic!("a frame for a stranger"),
            Err(error) => return (error, said),
        }
    }
}

#[test]
fn a_stranger_hears_nothing_and_whatever_it_says_changes_nothing() {
    let homes: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let package = package(1);
    let expected = expected(&package);
    let a = owner(homes[0].path());
    let b = joined(homes[1].path(), &a, SwarmRole::Serve);
    serve(&b, &package, range(0, LAYERS));
    let head = lead(&a, &package, WAIT_MAX);
    assert_eq!(answer(&head, requests()[0].clone()).as_ref(), Ok(&expected[0]));
    let running = start(&head, requests()[1].clone());
    let theirs = State::of(homes[1].path());
    let mut owned = Issuer::owner(NodeKey::new(&[77; 32]));
    let foreign_id = NodeKey::new(&[50; 32]).id();
    let foreign = own_certificate(&mut owned, foreign_id, 4_000_000_000, &mut Chance(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let descriptor = Message::MembersQuery(MembersQuery { package: None, limit: 9 });
        // Without a certificate, with that of another key, and with one of another swarm.
        for (seed, chain) in [(50, None), (51, Some(theirs)), (50, Some(foreign))] {
            let (sender, mut receiver, _endpoint) = stranger(seed, &a, chain).await.unwrap();
            sender.send(&descriptor).unwrap();
            let (error, said) = end(&mut receiver).await;
            let code = FaultCode::Forbidden;
            assert!(matches!(error, NetError::TurnedAway { code: c, .. } if c == code), "{error}");
            assert!(said.is_empty(), "{said:?}");
        }
        // A flood of tickets ends as well, and so does one who only waits.
        let forged = NodeKey::new(&[50; 32]).sign(Ticket {
            swarm: NodeKey::new(&[50; 32]).id(),
            ticket: TicketId([1; 16]),
            role: SwarmRole::Invite,
            models: List::default(),
            expires_at_s: u64::MAX,
            addresses: List::default(),
        });
        let (sender, mut receiver, _endpoint) = stranger(52, &a, None).await.unwrap();
        let request = Message::JoinRequest(JoinRequest { ticket: forged });
        for _ in 0..100 {
            // The other end closes in the middle of it.
            let _ = sender.send(&request);
        }
        let (error, said) = end(&mut receiver).await;
        assert!(matches!(error, NetError::TurnedAway { .. }), "{error}");
        assert!(said.len() <= 16 && said.iter().all(|m| matches!(m, Message::Fault(_))));
        let (_sender, mut receiver, _endpoint) = stranger(53, &a, None).await.unwrap();
        let (error, said) = end(&mut receiver).await;
        assert!(matches!(error, NetError::TurnedAway { .. }) && said.is_empty(), "{error}");
    });
    assert_eq!(collect(&running).as_ref(), Ok(&expected[1]), "nobody else noticed");
    assert_eq!(together(&head), expected);
    assert_eq!(head.status().replaced, 0);
}

struct Chance(u64);

impl shoal_swarm::Random for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The certificate of a member, as it lies on its disk.
struct State;

impl State {
    fn of(home: &Path) -> CertificateChain {
        let text = std::fs::read_to_string(home.join("node/swarm.json")).expect("it is there");
        let field = text.split("\"certificate\": \"").nth(1).expect("a certificate");
        let digits = field.split('"').next().expect("it ends");
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("digits"))
            .collect();
        CertificateChain::from_bytes(&bytes).expect("a chain")
    }
}

#[test]
fn a_ticket_is_not_exchanged_where_that_cannot_be_written_down() {
    let homes: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let a = owner(homes[0].path());
    let ticket = invite(&a, SwarmRole::Use);
    // The state is replaced by a file of its name, which a folder keeps out as a full disk would.
    let state = homes[0].path().join("node/swarm.json");
    let kept = std::fs::read(&state).expect("it is a member");
    std::fs::remove_file(&state).expect("it is there");
    std::fs::create_dir_all(state.join("in the way")).expect("a folder");
    let joiner = folder(homes[1].path());
    let refused = join_swarm(&joiner, &ticket, "", local(), &[], None);
    assert!(
        matches!(refused, Err(NodeError::Refused { code: FaultCode::Resources })),
        "{refused:?}"
    );
    assert!(!NodeFolder::is_member(homes[1].path()));
    std::fs::remove_dir_all(&state).expect("it is there");
    std::fs::write(&state, kept).expect("there is room again");
    let again = join_swarm(&joiner, &ticket, "", local(), &[], None);
    assert!(again.is_ok(), "a ticket that was refused is not used up: {again:?}");
}
