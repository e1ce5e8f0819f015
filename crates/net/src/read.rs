//! Reading whole values from a stream: lengths first, deadlines always.

use std::io;
use std::time::Duration;

use iroh::endpoint::{ConnectionError, ReadError, RecvStream};
use shoal_wire::limits::{ENVELOPE_BYTES, FRAME_HEADER_BYTES};
use shoal_wire::{
    Envelope, FaultCode, Field as _, Frame, FrameHeader, Message, NodeId, Version, WireError,
};
use tokio::time::{Instant, timeout_at};

use crate::limits::READ_STEP;
use crate::{NetError, StreamKind};

/// A stream and whose it is.
pub(crate) struct Reading<'a> {
    stream: &'a mut RecvStream,
    peer: NodeId,
    kind: StreamKind,
    progress: Duration,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        stream: &'a mut RecvStream,
        peer: NodeId,
        kind: StreamKind,
        progress: Duration,
    ) -> Self {
        Self { stream, peer, kind, progress }
    }

    /// The next message; `None` when the stream ends before one.
    pub(crate) async fn message(&mut self, agreed: Version) -> Result<Option<Message>, NetError> {
        let Some(head) = self.begin(ENVELOPE_BYTES).await? else {
            return Ok(None);
        };
        let head = head.first_chunk().expect("as many as were asked for");
        let envelope = Envelope::read(head, agreed).map_err(|error| self.broken(error))?;
        let body = self.rest(envelope.bytes).await?;
        let message = Message::from_body(envelope.kind, &body);
        message.map(Some).map_err(|error| self.broken(error))
    }

    /// The next frame; `None` when the stream ends before one.
    pub(crate) async fn frame(
        &mut self,
        agreed: Version,
        payload_bytes_max: u32,
    ) -> Result<Option<Frame>, NetError> {
        let Some(head) = self.begin(FRAME_HEADER_BYTES).await? else {
            return Ok(None);
        };
        let header = FrameHeader::from_bytes(&head).map_err(|error| self.broken(error))?;
        header.expect_version(agreed).map_err(|error| self.broken(error))?;
        let (peer, got) = (self.peer, header.payload_bytes);
        if got > payload_bytes_max {
            return Err(NetError::Oversize { peer, got, limit: payload_bytes_max });
        }
        let payload = self.rest(got as usize).await?;
        Frame::assemble(header, payload).map(Some).map_err(|error| self.broken(error))
    }

    /// The first bytes of a value. Before the first one there is no deadline: a stream may be idle.
    async fn begin(&mut self, needed: usize) -> Result<Option<Vec<u8>>, NetError> {
        let first = self.stream.read_chunk(needed).await;
        match first.map_err(|error| read_lost(self.peer, error))? {
            None => Ok(None),
            Some(bytes) => self.fill(bytes.to_vec(), needed).await.map(Some),
        }
    }

    async fn rest(&mut self, needed: usize) -> Result<Vec<u8>, NetError> {
        self.fill(Vec::new(), needed).await
    }

    /// Memory grows with what arrives, not with what was announced.
    async fn fill(&mut self, mut bytes: Vec<u8>, needed: usize) -> Result<Vec<u8>, NetError> {
        let (peer, stream) = (self.peer, self.kind);
        let limit = stream.patience(self.progress, needed as u64);
        let deadline = Instant::now() + limit;
        while bytes.len() < needed {
            let step = (needed - bytes.len()).min(READ_STEP);
            match timeout_at(deadline, self.stream.read_chunk(step)).await {
                Ok(Ok(Some(more))) => bytes.extend_from_slice(&more),
                Ok(Ok(None)) => {
                    return Err(self.broken(WireError::Short {
                        field: "message",
                        needed,
                        left: bytes.len(),
                    }));
                }
                Ok(Err(error)) => return Err(read_lost(peer, error)),
                Err(_) => {
                    return Err(NetError::Stuck { peer, stream, got: bytes.len(), needed, limit });
                }
            }
        }
        Ok(bytes)
    }

    fn broken(&self, source: WireError) -> NetError {
        NetError::Wire { peer: self.peer, stream: self.kind, source }
    }
}

fn read_lost(peer: NodeId, error: ReadError) -> NetError {
    match error {
        ReadError::ConnectionLost(error) => lost(peer, error),
        other => NetError::Lost { peer, source: io::Error::other(other) },
    }
}

/// What the end of a connection means.
pub(crate) fn lost(peer: NodeId, error: ConnectionError) -> NetError {
    match error {
        ConnectionError::LocallyClosed => NetError::Closed { peer },
        ConnectionError::ApplicationClosed(close) => {
            let number = close.error_code.into_inner();
            let code = FaultCode::ALL.iter().find(|code| u64::from(code.number()) == number);
            code.map_or(NetError::Closed { peer }, |&code| NetError::TurnedAway { peer, code })
        }
        other => NetError::Lost { peer, source: io::Error::other(other) },
    }
}
