//! Joining by a short code that a person reads on one machine and types on the other. Spec 03,
//! 10.1.
//!
//! Owns: the code, both ends of the exchange over a connection. A ticket is handed over to whoever
//! proves to know the code; what becomes of it is the business of [`crate::join_swarm`].

mod exchange;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use shoal_net::{
    Arrival, Connection, Discovery, Endpoint, EndpointConfig, Incoming, NetError, PeerAddress,
    Receiver, SecretKey, Sender, lan,
};
use shoal_swarm::Random as _;
use shoal_wire::limits::PAIRING_BYTES_MAX;
use shoal_wire::{Bytes, FaultCode, Message, NodeId, Pairing as Step};

use self::exchange::Side;
use crate::chance::SystemRandom;
use crate::driver::fault;

/// Digits of a code.
const DIGITS: usize = 6;
/// Wrong guesses after which a code is void: three in a million.
const WRONG_MAX: u8 = 3;
/// How long one exchange may take.
const EXCHANGE_FOR: Duration = Duration::from_secs(10);
/// How long the other end may take to read the last word.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to look for an invitation on the local network.
const FIND_FOR: Duration = Duration::from_secs(8);
/// How long to look for another one.
const FIND_REST: Duration = Duration::from_secs(1);
/// Most invitations that a code is tried on: each may be a stranger's, who may guess once.
const FOUND_MAX: usize = 4;
/// Longest ticket that is taken.
const TICKET_BYTES_MAX: usize = 16 << 10;
/// How often the one who waits looks whether to go on.
const LOOK: Duration = Duration::from_millis(200);

/// Six digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PairingCode(u32);

impl PairingCode {
    fn draw() -> Self {
        Self(SystemRandom.below(10_u64.pow(DIGITS as u32)) as u32)
    }

    fn digits(self) -> String {
        format!("{:06}", self.0)
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(..)")
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        write!(f, "{}-{}", &digits[..3], &digits[3..])
    }
}

impl FromStr for PairingCode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "a code is six digits, like 482-913";
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(rule);
        }
        digits.parse().map(Self).map_err(|_| rule)
    }
}

/// Why nobody was paired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The system gives no threads.
    #[error("starting: {0}")]
    System(#[from] std::io::Error),
    /// Nobody invites here.
    #[error(
        "nobody on this network invites; run `shoal swarm invite --code` on a member, or name it \
         with --at"
    )]
    NobodyFound,
    /// None of those who invite knows this code.
    #[error("the code is wrong, or its time is over")]
    Wrong,
    /// Too many wrong codes.
    #[error("{WRONG_MAX} wrong codes: this one is void, ask for a new one")]
    Guessed,
    /// Nobody came.
    #[error("nobody came")]
    TimedOut,
    /// Told to stop.
    #[error("the invitation was taken back")]
    Cancelled,
    /// The other end does not follow the protocol.
    #[error("{0} does not follow the protocol")]
    Protocol(NodeId),
}

/// An open invitation by code. Its key is for this alone.
#[derive(Debug)]
pub struct Pairing {
    code: PairingCode,
    runtime: tokio::runtime::Runtime,
    endpoint: Endpoint,
    /// Why the local network does not hear of it, if so.
    unheard: Option<NetError>,
    _announced: Option<lan::Announcement>,
}

impl Pairing {
    /// Opens one. It counts once [`Self::wait`] is called.
    ///
    /// # Errors
    /// The socket cannot be had.
    pub fn open(listen: SocketAddr, discovery: Option<Discovery>) -> Result<Self, PairingError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let key = secret();
        let config = EndpointConfig { discovery, ..EndpointConfig::new(key, listen) };
        let endpoint = runtime.block_on(Endpoint::bind(config))?;
        let port = endpoint.port();
        // Who listens on this machine alone is not to be found by others.
        let announced = (!listen.ip().is_loopback())
            .then(|| lan::Announcement::start(endpoint.node(), port, listen.is_ipv6()))
            .transpose();
        let (announced, unheard) = match announced {
            Ok(announced) => (announced, None),
            Err(error) => (None, Some(error)),
        };
        let code = PairingCode::draw();
        Ok(Self { code, runtime, endpoint, unheard, _announced: announced })
    }

    /// What to type on the other machine.
    #[must_use]
    pub const fn code(&self) -> PairingCode {
        self.code
    }

    /// Where it waits, for machines that multicast does not reach.
    #[must_use]
    pub fn address(&self) -> PeerAddress {
        self.endpoint.address()
    }

    /// Why the local network does not hear of it, if so.
    #[must_use]
    pub const fn unheard(&self) -> Option<&NetError> {
        self.unheard.as_ref()
    }

    /// Hands `ticket` to the first who proves to know the code. Ends when `go_on` says no.
    ///
    /// # Errors
    /// Nobody came in time, or too many guessed.
    pub fn wait(
        self,
        ticket: &str,
        time: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), PairingError> {
        let Self { code, runtime, endpoint, .. } = &self;
        let end = Instant::now() + time;
        let outcome = runtime.block_on(async {
            let mut wrong = 0;
            loop {
                if !go_on() {
                    return Err(PairingError::Cancelled);
                }
                if Instant::now() >= end {
                    return Err(PairingError::TimedOut);
                }
                let Ok(arrival) = tokio::time::timeout(LOOK, endpoint.accept()).await else {
                    continue;
                };
                let arrival = arrival.ok_or(PairingError::Cancelled)?;
                let met = meet(arrival, endpoint.node(), *code, ticket);
                // Whoever did not come to the point has learned nothing.
                let Ok(Ok((met, talk))) = tokio::time::timeout(EXCHANGE_FOR, met).await else {
                    continue;
                };
                // What was found out counts, whatever the other end does from now on.
                talk.wait_for_end().await;
                match met {
                    Met::Knows => return Ok(()),
                    Met::Guessed => wrong += 1,
                }
                if wrong >= WRONG_MAX {
                    return Err(PairingError::Guessed);
                }
            }
        });
        runtime.block_on(endpoint.close());
        outcome
    }
}

/// Finds an invitation that this code is for, on the local network or at a place, and gets its
/// ticket. A place that is a key alone is looked up if `discovery` says so.
///
/// # Errors
/// Nobody invites, or nobody with this code.
pub fn pair(
    code: PairingCode,
    at: Option<PeerAddress>,
    listen: SocketAddr,
    discovery: Option<Discovery>,
) -> Result<String, PairingError> {
    let places = match at {
        Some(place) => vec![place],
        None => lan::find(FIND_FOR, FIND_REST, FOUND_MAX)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = EndpointConfig { discovery, ..EndpointConfig::new(secret(), listen) };
        let endpoint = Endpoint::bind(config).await?;
        let time = EXCHANGE_FOR.max(endpoint.connect_for());
        let mut outcome = Err(PairingError::NobodyFound);
        for place in places {
            let asked = ask(&endpoint, &place, code);
            let answer = tokio::time::timeout(time, asked).await;
            let answer = answer.unwrap_or(Err(PairingError::Protocol(place.node)));
            let is_over = answer.is_ok();
            // A wrong code says more than a stranger that does not answer.
            if is_over || !matches!(outcome, Err(PairingError::Wrong)) {
                outcome = answer;
            }
            if is_over {
                break;
            }
        }
        endpoint.close().await;
        outcome
    })
}

/// Whether somebody invites on the local network, as soon as somebody does. Asks it and nobody
/// else, ever more rarely, for so long.
#[must_use]
pub fn is_invited(within: Duration) -> bool {
    lan::find(within, FIND_REST, 1).is_ok_and(|found| !found.is_empty())
}

fn secret() -> SecretKey {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&SystemRandom.next_id());
    bytes[16..].copy_from_slice(&SystemRandom.next_id());
    SecretKey::new(&bytes)
}

/// What became of somebody who came.
enum Met {
    Knows,
    Guessed,
}

async fn meet(
    arrival: Arrival,
    me: NodeId,
    code: PairingCode,
    ticket: &str,
) -> Result<(Met, Talk), PairingError> {
    let connection = arrival.greet().await?;
    let guest = connection.peer();
    let mut talk = Talk::new(connection);
    let (host, ours) = Side::host(&code.digits(), guest, me);
    let theirs = talk.hear().await?;
    talk.say(&ours)?;
    let keys = host.finish(&theirs).ok_or(PairingError::Protocol(guest))?;
    let proof = talk.hear().await?;
    if !keys.is_guest(&proof) {
        // It is a guess also when its end does not hear so.
        let _ = talk.sender.send(&Message::Fault(fault(FaultCode::Forbidden)));
        return Ok((Met::Guessed, talk));
    }
    talk.say(&keys.host())?;
    talk.say(&(ticket.len() as u32).to_le_bytes())?;
    for piece in ticket.as_bytes().chunks(PAIRING_BYTES_MAX) {
        talk.say(piece)?;
    }
    Ok((Met::Knows, talk))
}

async fn ask(
    endpoint: &Endpoint,
    place: &PeerAddress,
    code: PairingCode,
) -> Result<String, PairingError> {
    let mut talk = Talk::new(endpoint.connect(place).await?);
    let (guest, ours) = Side::guest(&code.digits(), endpoint.node(), place.node);
    talk.say(&ours)?;
    let theirs = talk.hear().await?;
    let keys = guest.finish(&theirs).ok_or(PairingError::Protocol(place.node))?;
    talk.say(&keys.guest())?;
    let proof = talk.hear().await?;
    if !keys.is_host(&proof) {
        return Err(PairingError::Wrong);
    }
    let broken = || PairingError::Protocol(place.node);
    let length = talk.hear().await?.try_into().map(u32::from_le_bytes).map_err(|_| broken())?;
    let length = usize::try_from(length).ok().filter(|length| *length <= TICKET_BYTES_MAX);
    let length = length.ok_or_else(broken)?;
    let mut ticket = Vec::new();
    while ticket.len() < length {
        let piece = talk.hear().await?;
        if piece.is_empty() || ticket.len() + piece.len() > length {
            return Err(broken());
        }
        ticket.extend_from_slice(&piece);
    }
    String::from_utf8(ticket).map_err(|_| broken())
}

/// Steps over a connection, counted from 1 by both ends together.
struct Talk {
    sender: Sender,
    receiver: Receiver,
    peer: NodeId,
    step: u8,
}

impl Talk {
    fn new(connection: Connection) -> Self {
        let peer = connection.peer();
        let (sender, receiver) = connection.split();
        Self { sender, receiver, peer, step: 0 }
    }

    fn next(&mut self) -> Result<u8, PairingError> {
        self.step = self.step.checked_add(1).ok_or(PairingError::Protocol(self.peer))?;
        Ok(self.step)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), PairingError> {
        let step = self.next()?;
        let bytes = Bytes::try_new(bytes.to_vec()).expect("steps are cut to what one may have");
        Ok(self.sender.send(&Message::Pairing(Step { step, bytes }))?)
    }

    async fn hear(&mut self) -> Result<Vec<u8>, PairingError> {
        let step = self.next()?;
        match self.receiver.next().await? {
            Incoming::Message(message) => match *message {
                Message::Pairing(said) if said.step == step => Ok(said.bytes.to_vec()),
                Message::Fault(fault) if fault.code == FaultCode::Forbidden => {
                    Err(PairingError::Wrong)
                }
                _ => Err(PairingError::Protocol(self.peer)),
            },
            _ => Err(PairingError::Protocol(self.peer)),
        }
    }

    /// Lets the other end read before the connection goes.
    async fn wait_for_end(mut self) {
        let end = async { while self.receiver.next().await.is_ok() {} };
        let _ = tokio::time::timeout(FAREWELL, end).await;
    }
}

#[cfg(test)]
mod tests;
