//! The first words of a connection: versions, and that this is the protocol at all. Spec 03, 2, 11.

use std::time::Duration;

use iroh::endpoint::{Connection as Quic, RecvStream, SendStream};
use shoal_base::Blame;
use shoal_wire::limits::VERSION_MIN;
use shoal_wire::{
    Fault, FaultCode, GenerationId, Hello, Message, NodeId, Version, VersionRange, Welcome,
};

use crate::limits::{FAREWELL, PROGRESS};
use crate::read::{Reading, lost};
use crate::write::write_all;
use crate::{NetError, StreamKind};

/// A connection whose two ends speak the same version.
pub(crate) struct Greeted {
    pub(crate) peer: NodeId,
    pub(crate) version: Version,
    pub(crate) hello: Hello,
    /// By the number of [`StreamKind`].
    pub(crate) sending: [SendStream; StreamKind::ALL.len()],
    pub(crate) control: RecvStream,
}

/// Opens the streams of this side and exchanges the first words.
pub(crate) async fn greet(
    quic: &Quic,
    peer: NodeId,
    hello: Hello,
    progress: Duration,
) -> Result<Greeted, NetError> {
    let mut sending = [
        open(quic, peer).await?,
        open(quic, peer).await?,
        open(quic, peer).await?,
        open(quic, peer).await?,
    ];
    for (stream, kind) in sending.iter().zip(StreamKind::ALL) {
        // It fails only on a stream that is closed; the next write says so.
        let _ = stream.set_priority(kind.priority());
    }
    let oldest = Version(VERSION_MIN);
    say(&mut sending[0], peer, &Message::Hello(hello.clone()), oldest).await?;
    let mut control = quic.accept_uni().await.map_err(|error| lost(peer, error))?;
    let mut reading = Reading::new(&mut control, peer, StreamKind::Control, progress);
    let theirs = match reading.message(oldest).await? {
        Some(Message::Hello(theirs)) => theirs,
        other => return Err(out_of_place(peer, other, "the first message is not a hello")),
    };
    let version = match hello.versions.agree(theirs.versions) {
        Ok(version) => version,
        Err(source) => {
            farewell(&mut sending[0], peer, theirs.versions).await;
            return Err(NetError::Wire { peer, stream: StreamKind::Control, source });
        }
    };
    let welcome = Welcome { version, revocation: hello.revocation };
    say(&mut sending[0], peer, &Message::Welcome(welcome), version).await?;
    match reading.message(version).await? {
        Some(Message::Welcome(theirs)) if theirs.version == version => {}
        other => return Err(out_of_place(peer, other, "it did not agree on the common version")),
    }
    Ok(Greeted { peer, version, hello: theirs, sending, control })
}

async fn open(quic: &Quic, peer: NodeId) -> Result<SendStream, NetError> {
    quic.open_uni().await.map_err(|error| lost(peer, error))
}

async fn say(
    stream: &mut SendStream,
    peer: NodeId,
    message: &Message,
    version: Version,
) -> Result<(), NetError> {
    let kind = StreamKind::Control;
    let bytes = message.encode(version);
    let bytes = bytes.map_err(|source| NetError::Wire { peer, stream: kind, source })?;
    write_all(stream, peer, kind, &bytes, PROGRESS).await
}

/// Tells a peer without a common version so, and waits a little until it has heard it.
async fn farewell(stream: &mut SendStream, peer: NodeId, theirs: VersionRange) {
    let fault = Fault {
        code: FaultCode::Version,
        blame: Blame::Caller,
        ring: None,
        generation: GenerationId(0),
        request: None,
        got: theirs.newest.0.into(),
        limit: VersionRange::OURS.newest.0.into(),
    };
    let said = say(stream, peer, &Message::Fault(fault), Version(VERSION_MIN)).await;
    if said.is_ok() && stream.finish().is_ok() {
        // Whether it was heard makes no difference to this end.
        let _ = tokio::time::timeout(FAREWELL, stream.stopped()).await;
    }
}

fn out_of_place(peer: NodeId, got: Option<Message>, rule: &'static str) -> NetError {
    match got {
        Some(Message::Fault(fault)) => NetError::TurnedAway { peer, code: fault.code },
        Some(_) => NetError::Unexpected { peer, rule },
        None => NetError::Closed { peer },
    }
}
