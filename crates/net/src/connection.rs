//! A connection in use: four streams each way, a queue before each.
//!
//! Blobs never hold up prompts, prompts never hold up answers, and none holds up control: each has
//! a stream and a queue of its own, and where all have something, control goes first and blobs
//! last.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Connection as Quic, RecvStream, SendStream, VarInt};
use shoal_wire::{BlobData, FaultCode, Frame, FrameKind, Hello, Message, NodeId, Version};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::timeout;

use crate::endpoint::Bounds;
use crate::handshake::Greeted;
use crate::limits::{
    BLOB_PIECE, BLOB_PROGRESS, BLOB_QUEUE, CONTROL_QUEUE, DECODE_QUEUE, PREFILL_QUEUE,
    RECEIVED_BLOBS, RECEIVED_QUEUE, STREAMS, TURN_FOR, patience,
};
use crate::read::{Reading, lost};
use crate::upload::Upload;
use crate::write::write_all;
use crate::{NetError, endpoint};

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Messages.
    Control,
    /// Frames of answers, replies, and frames without rows.
    Decode,
    /// Frames of prompts.
    Prefill,
    /// Leaves of blobs.
    Blobs,
}

impl StreamKind {
    /// In the order in which each side opens them.
    pub(crate) const ALL: [Self; STREAMS as usize] =
        [Self::Control, Self::Decode, Self::Prefill, Self::Blobs];

    /// Which bytes the transport sends first.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Control => 3,
            Self::Decode => 2,
            Self::Prefill => 1,
            Self::Blobs => 0,
        }
    }

    fn queue(self) -> usize {
        match self {
            Self::Control => CONTROL_QUEUE,
            Self::Decode => DECODE_QUEUE,
            Self::Prefill => PREFILL_QUEUE,
            Self::Blobs => BLOB_QUEUE,
        }
    }

    /// How long a value of so many bytes may take on it once it has begun.
    pub(crate) fn patience(self, progress: Duration, bytes: u64) -> Duration {
        match self {
            Self::Blobs => patience(progress + BLOB_PROGRESS, bytes),
            _ => patience(progress, bytes),
        }
    }

    fn of(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Prefill => Self::Prefill,
            _ => Self::Decode,
        }
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Decode => "decode",
            Self::Prefill => "prefill",
            Self::Blobs => "blob",
        })
    }
}

/// What a peer sent.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A message.
    Message(Box<Message>),
    /// A frame.
    Frame(Frame),
}

/// A connection to a peer whose key is proved and whose version is agreed on.
#[derive(Debug)]
pub struct Connection {
    peer: NodeId,
    hello: Hello,
    sender: Sender,
    receiver: Receiver,
}

/// The way to a peer. Cheap to clone; the last one that is dropped closes the connection.
#[derive(Clone, Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    version: Version,
    /// By [`StreamKind`].
    queues: [mpsc::Sender<Vec<u8>>; STREAMS as usize],
    _closer: Arc<Closer>,
}

/// The way from a peer.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    control: mpsc::Receiver<Incoming>,
    decode: mpsc::Receiver<Incoming>,
    prefill: mpsc::Receiver<Incoming>,
    blobs: mpsc::Receiver<Incoming>,
}

#[derive(Debug)]
struct Shared {
    peer: NodeId,
    quic: Quic,
    bounds: Bounds,
    upload: Arc<Upload>,
    /// The first thing that went wrong.
    failure: Mutex<Option<NetError>>,
}

#[derive(Debug)]
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.fail(NetError::Closed { peer: self.0.peer });
    }
}

impl Shared {
    /// Ends the connection; the first reason counts.
    fn fail(&self, error: NetError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            endpoint::close(&self.quic, &error);
            *failure = Some(error);
        }
    }

    fn take_failure(&self) -> NetError {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure
            .replace(NetError::Closed { peer: self.peer })
            .unwrap_or(NetError::Closed { peer: self.peer })
    }
}

impl Connection {
    /// Starts what reads and writes.
    pub(crate) fn start(quic: Quic, greeted: Greeted, bounds: Bounds, upload: Arc<Upload>) -> Self {
        let Greeted { peer, version, hello, sending, control } = greeted;
        let shared = Arc::new(Shared { peer, quic, bounds, upload, failure: Mutex::new(None) });
        let mut streams = sending.into_iter();
        let queues = StreamKind::ALL.map(|kind| {
            let (queue, waiting) = mpsc::channel(kind.queue());
            let stream = streams.next().expect("there is a stream of each kind");
            tokio::spawn(write(Arc::clone(&shared), kind, stream, waiting));
            queue
        });
        let (control_read, control_taken) = mpsc::channel(RECEIVED_QUEUE);
        let (decode_read, decode) = mpsc::channel(RECEIVED_QUEUE);
        let (prefill_read, prefill) = mpsc::channel(RECEIVED_QUEUE);
        let (blobs_read, blobs) = mpsc::channel(RECEIVED_BLOBS);
        let reader = Reader { shared: Arc::clone(&shared), version };
        tokio::spawn(read_messages(reader.clone(), StreamKind::Control, control, control_read));
        tokio::spawn(accept_streams(reader, decode_read, prefill_read, blobs_read));
        let receiver = Receiver {
            shared: Arc::clone(&shared),
            control: control_taken,
            decode,
            prefill,
            blobs,
        };
        let _closer = Arc::new(Closer(Arc::clone(&shared)));
        Self { peer, hello, sender: Sender { shared, version, queues, _closer }, receiver }
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// What it said first.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Both directions.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// The version agreed on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether packets to the peer go over a relay at present.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        let paths = self.shared.quic.paths();
        let selected = paths.iter().find(|path| path.is_selected());
        selected.or_else(|| paths.iter().next()).is_some_and(|path| path.is_relay())
    }

    /// Queues a message. Never waits.
    ///
    /// # Errors
    /// Too many wait already, the connection is over, or the message is too long.
    pub fn send(&self, message: &Message) -> Result<(), NetError> {
        let (peer, stream) = (self.shared.peer, StreamKind::Control);
        let bytes = message.encode(self.version);
        let bytes = bytes.map_err(|source| NetError::Wire { peer, stream, source })?;
        self.queue(stream, bytes)
    }

    /// Queues a frame. Never waits.
    ///
    /// # Errors
    /// Too many wait already, or the connection is over.
    pub fn send_frame(&self, frame: &Frame) -> Result<(), NetError> {
        self.queue(StreamKind::of(frame.header.kind), frame.to_bytes())
    }

    /// Waits for a place in the queue of leaves and puts one there.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send_leaf(&self, leaf: BlobData) -> Result<(), NetError> {
        let (peer, stream) = (self.shared.peer, StreamKind::Blobs);
        let bytes = Message::BlobData(leaf).encode(self.version);
        let bytes = bytes.map_err(|source| NetError::Wire { peer, stream, source })?;
        let queued = self.queues[stream as usize].send(bytes).await;
        queued.map_err(|_| NetError::Closed { peer })
    }

    /// Ends the connection at once; what is queued is not sent.
    pub fn close(&self) {
        self.shared.fail(NetError::Closed { peer: self.shared.peer });
    }

    /// Ends the connection at once and tells the peer why.
    pub fn turn_away(&self, code: FaultCode) {
        self.shared.quic.close(VarInt::from_u32(code.number().into()), b"");
        self.close();
    }

    fn queue(&self, stream: StreamKind, bytes: Vec<u8>) -> Result<(), NetError> {
        let peer = self.shared.peer;
        match self.queues[stream as usize].try_send(bytes) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                Err(NetError::QueueFull { peer, stream, limit: stream.queue() })
            }
            Err(TrySendError::Closed(_)) => Err(NetError::Closed { peer }),
        }
    }
}

impl Receiver {
    /// What the peer sent next: control before answers before prompts before blobs.
    ///
    /// # Errors
    /// Why the connection is over. Nothing comes after that.
    pub async fn next(&mut self) -> Result<Incoming, NetError> {
        let next = tokio::select! {
            biased;
            Some(incoming) = self.control.recv() => Some(incoming),
            Some(incoming) = self.decode.recv() => Some(incoming),
            Some(incoming) = self.prefill.recv() => Some(incoming),
            Some(incoming) = self.blobs.recv() => Some(incoming),
            else => None,
        };
        next.ok_or_else(|| self.shared.take_failure())
    }
}

async fn write(
    shared: Arc<Shared>,
    kind: StreamKind,
    mut stream: SendStream,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) {
    let progress = shared.bounds.progress;
    while let Some(bytes) = waiting.recv().await {
        let written = match kind {
            StreamKind::Blobs => write_leaf(&shared, &mut stream, &bytes).await,
            _ => {
                match kind {
                    // Leases and signs of life cannot wait.
                    StreamKind::Control => shared.upload.count(bytes.len()),
                    _ => shared.upload.wait(bytes.len()).await,
                }
                write_all(&mut stream, shared.peer, kind, &bytes, progress).await
            }
        };
        if let Err(error) = written {
            return shared.fail(error);
        }
    }
}

/// Writes a leaf in small pieces, so that an answer waits for one of these at most. A receiver
/// that takes them slowly does not keep others from their turn.
async fn write_leaf(
    shared: &Shared,
    stream: &mut SendStream,
    bytes: &[u8],
) -> Result<(), NetError> {
    let (progress, kind) = (shared.bounds.progress, StreamKind::Blobs);
    let mut turn = shared.upload.turn().await;
    for piece in bytes.chunks(BLOB_PIECE) {
        shared.upload.wait(piece.len()).await;
        let mut writing = pin!(write_all(stream, shared.peer, kind, piece, progress));
        match timeout(TURN_FOR, &mut writing).await {
            Ok(written) => written?,
            Err(_) => {
                turn = None;
                writing.await?;
            }
        }
    }
    drop(turn);
    Ok(())
}

/// What reading needs.
#[derive(Clone)]
struct Reader {
    shared: Arc<Shared>,
    version: Version,
}

async fn read_messages(
    reader: Reader,
    kind: StreamKind,
    mut stream: RecvStream,
    read: mpsc::Sender<Incoming>,
) {
    let Reader { shared, version } = reader;
    let peer = shared.peer;
    let mut reading = Reading::new(&mut stream, peer, kind, shared.bounds.progress);
    loop {
        let message = match reading.message(version).await {
            Ok(Some(Message::Hello(_) | Message::Welcome(_))) => {
                let rule = "the first words are said once";
                return shared.fail(NetError::Unexpected { peer, rule });
            }
            Ok(Some(message)) => message,
            Ok(None) => return shared.fail(NetError::Closed { peer }),
            Err(error) => return shared.fail(error),
        };
        if matches!(message, Message::BlobData(_)) != (kind == StreamKind::Blobs) {
            let rule = "leaves of blobs have a stream of their own";
            return shared.fail(NetError::Unexpected { peer, rule });
        }
        if read.send(Incoming::Message(Box::new(message))).await.is_err() {
            return;
        }
    }
}

/// Takes the other streams of the peer, which come in the order in which it opened them.
async fn accept_streams(
    reader: Reader,
    decode: mpsc::Sender<Incoming>,
    prefill: mpsc::Sender<Incoming>,
    blobs: mpsc::Sender<Incoming>,
) {
    let shared = Arc::clone(&reader.shared);
    let peer = shared.peer;
    let kinds =
        [(StreamKind::Decode, decode), (StreamKind::Prefill, prefill), (StreamKind::Blobs, blobs)];
    for (kind, read) in kinds {
        let stream = match shared.quic.accept_uni().await {
            Ok(stream) => stream,
            Err(error) => return shared.fail(lost(peer, error)),
        };
        match kind {
            StreamKind::Blobs => tokio::spawn(read_messages(reader.clone(), kind, stream, read)),
            _ => tokio::spawn(read_frames(reader.clone(), kind, stream, read)),
        };
    }
    match shared.quic.accept_uni().await {
        Ok(_) => {
            let rule = "a side opens one stream each for control, decode, prefill and blobs";
            shared.fail(NetError::Unexpected { peer, rule });
        }
        Err(error) => shared.fail(lost(peer, error)),
    }
}

async fn read_frames(
    reader: Reader,
    kind: StreamKind,
    mut stream: RecvStream,
    read: mpsc::Sender<Incoming>,
) {
    let Reader { shared, version } = reader;
    let Bounds { payload_bytes_max, progress } = shared.bounds;
    let peer = shared.peer;
    let mut reading = Reading::new(&mut stream, peer, kind, progress);
    loop {
        let frame = match reading.frame(version, payload_bytes_max).await {
            Ok(Some(frame)) if StreamKind::of(frame.header.kind) == kind => frame,
            Ok(Some(_)) => {
                let rule = "prompts and answers travel on streams of their own";
                return shared.fail(NetError::Unexpected { peer, rule });
            }
            Ok(None) => return shared.fail(NetError::Closed { peer }),
            Err(error) => return shared.fail(error),
        };
        if read.send(Incoming::Frame(frame)).await.is_err() {
            return;
        }
    }
}
