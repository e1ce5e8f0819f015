//! Writing whole values to a stream, with a deadline each.

use std::io;
use std::time::Duration;

use iroh::endpoint::{SendStream, WriteError};
use shoal_wire::NodeId;
use tokio::time::timeout;

use crate::read::lost;
use crate::{NetError, StreamKind};

/// Hands all bytes to the transport. A peer that takes too few of them is given up.
pub(crate) async fn write_all(
    stream: &mut SendStream,
    peer: NodeId,
    kind: StreamKind,
    bytes: &[u8],
    progress: Duration,
) -> Result<(), NetError> {
    let limit = kind.patience(progress, bytes.len() as u64);
    match timeout(limit, stream.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(WriteError::ConnectionLost(error))) => Err(lost(peer, error)),
        Ok(Err(other)) => Err(NetError::Lost { peer, source: io::Error::other(other) }),
        Err(_) => Err(NetError::Clogged { peer, stream: kind, limit }),
    }
}
