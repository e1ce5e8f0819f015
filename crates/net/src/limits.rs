//! Every limit, deadline and queue of the transport.

use std::time::Duration;

/// What both sides of a connection must name. Its number is that of the form of the first words,
/// which no version changes.
pub const ALPN: &[u8] = b"shoal/1";
/// Streams each side opens: control, decode, prefill, blobs.
pub const STREAMS: u32 = 4;

/// From the first packet to the agreed version.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// What connecting may take longer where keys are looked up: entering the DHT and asking around.
pub const LOOKUP: Duration = Duration::from_secs(20);
/// How long the beginning of a message may take, from its first byte to the last of its envelope
/// or header; and what each longer message gets on top of its bytes.
pub const PROGRESS: Duration = Duration::from_secs(5);
/// Slower than this, in bytes per second, a message that has begun counts as stuck.
pub const RATE_MIN: u64 = 16 << 10;
/// What each leaf of a blob gets on top: everything else goes first, and whoever waits for it looks
/// for another peer much earlier.
pub const BLOB_PROGRESS: Duration = Duration::from_secs(120);
/// Without a packet for so long a connection is dead.
pub const IDLE: Duration = Duration::from_secs(10);
/// How often an idle connection shows that it lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How long a fault may take to reach a peer that is being turned away.
pub const FAREWELL: Duration = Duration::from_millis(500);

/// Messages that wait to be sent to one peer.
pub const CONTROL_QUEUE: usize = 512;
/// Decode frames and replies that wait to be sent to one peer.
pub const DECODE_QUEUE: usize = 512;
/// Prefill frames that wait to be sent to one peer.
pub const PREFILL_QUEUE: usize = 64;
/// Leaves of blobs that wait to be sent to one peer: enough to keep the transport busy.
pub const BLOB_QUEUE: usize = 2;
/// Bytes of a blob that are written at once.
pub const BLOB_PIECE: usize = 16 << 10;
/// Values of one stream that were read and wait to be taken.
pub const RECEIVED_QUEUE: usize = 16;
/// Leaves of blobs that were read and wait to be taken.
pub const RECEIVED_BLOBS: usize = 2;
/// With a bound on what is sent: in what time the leaves that travel at once arrive, far below
/// what a receiver waits for one.
pub const LEAVES_OVER: Duration = Duration::from_secs(10);
/// A leaf whose receiver takes a piece no faster than in this time gives its turn away.
pub const TURN_FOR: Duration = Duration::from_secs(1);
/// Least bound on what is sent, in bytes per second: with less no leaf arrives in time.
pub const UPLOAD_BYTES_PER_S_MIN: u64 = RATE_MIN;
/// Connections that are being set up at once.
pub const ACCEPTING_MAX: usize = 64;

/// Relays a node names at most, so that its address has room for its sockets.
pub const RELAYS_MAX: usize = 2;
/// How long a node that starts waits for a relay before it goes on without.
pub const RELAY_FOR: Duration = Duration::from_secs(5);
/// How often free ports are looked for that belong together.
pub const BIND_TRIES: usize = 16;
/// Where a relay with a certificate says how a node looks from outside, by custom.
pub const DISCOVERY_PORT: u16 = 7842;
/// How long such an answer may take.
pub const MIRROR: Duration = Duration::from_secs(3);

/// Bytes of memory taken at once for what has not arrived yet.
pub const READ_STEP: usize = 64 << 10;
/// Most bytes after a frame header, unless configured otherwise.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Bytes of one stream the transport holds for a reader that is busy. The transport gives a
/// connection up when it holds more than 1024 pieces with gaps between them; in as many bytes as
/// these there are fewer packets than that with a lost one after each, so no loss can do it.
pub const STREAM_WINDOW: u32 = 2 << 20;
/// Bytes of one connection it holds: as much as all streams together, so that no stream takes the
/// room of another.
pub const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// How long a message of so many bytes may take once it has begun.
pub(crate) fn patience(progress: Duration, bytes: u64) -> Duration {
    progress + Duration::from_micros(bytes.saturating_mul(1_000_000) / RATE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_the_bytes_and_has_an_end() {
        assert_eq!(patience(PROGRESS, 0), PROGRESS);
        assert_eq!(patience(PROGRESS, RATE_MIN * 3), PROGRESS + Duration::from_secs(3));
        assert!(patience(PROGRESS, u64::MAX) > PROGRESS);
    }
}
