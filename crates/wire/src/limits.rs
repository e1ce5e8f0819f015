//! Every limit of the wire. Spec 03, 2.

/// The version this code speaks, N.
pub const VERSION: u8 = 1;
/// The oldest version it still speaks, N - 1 once there is one.
pub const VERSION_MIN: u8 = 1;

/// Bytes before the body of a message.
pub const ENVELOPE_BYTES: usize = 8;
/// Longest body of most kinds of messages.
pub const MESSAGE_BYTES_MAX: usize = 1 << 14;
/// Longest body that carries descriptors, and longest list of leaves.
pub const MESSAGE_LARGE_BYTES_MAX: usize = 1 << 20;
/// Longest body of `BlobData`.
pub const BLOB_MESSAGE_BYTES_MAX: usize = (1 << 20) + 64;

/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Most rows in one frame. A longer prompt comes in several.
pub const FRAME_ROWS_MAX: u16 = 2048;
/// Most elements of a row; that of spec 02.
pub const WIDTH_MAX: u32 = 1 << 17;
/// Most bytes after a frame header.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = 1 << 26;
/// Longest sequence; that of spec 02.
pub const POSITION_MAX: u32 = 1 << 20;
/// `last_stage` of a frame that goes through to the head.
pub const THROUGH: u8 = 255;

/// Most stages of a ring.
pub const STAGES_MAX: usize = 64;
/// Most layers of a package; that of spec 02.
pub const LAYERS_MAX: u16 = 1024;
/// Longest time a lease may be asked for or granted, in milliseconds.
pub const LEASE_TTL_MS_MAX: u32 = 60_000;
/// Credit of a shadow, in that of a stage: it may be behind by the length of a prompt, and nobody
/// waits for it.
pub const SHADOW_CREDIT: u32 = 8;

/// Bytes of a leaf of a blob. A power of two of the hash's chunks.
pub const LEAF_BYTES: u64 = 1 << 20;
/// Most leaves, and so 16 GiB, of a blob.
pub const LEAVES_MAX: usize = 1 << 14;
/// Most ranges in one request.
pub const BLOB_RANGES_MAX: usize = 64;

/// Longest text that names software, or a transport address.
pub const TEXT_BYTES_MAX: usize = 256;
/// Most transport addresses of a node.
pub const ADDRESSES_MAX: usize = 8;
/// Most packages one node offers.
pub const OFFERS_MAX: usize = 16;
/// Most separate ranges of one package on one node.
pub const RANGES_MAX: usize = 16;
/// Most measured links in one descriptor.
pub const LINKS_MAX: usize = 32;
/// Most descriptors in one reply.
pub const MEMBERS_MAX: usize = 256;
/// Longest time a descriptor may ask to be believed, in seconds.
pub const LIFETIME_S_MAX: u32 = 21_600;

/// Most packages a ticket or certificate names.
pub const MODELS_MAX: usize = 16;
/// Longest life of a certificate, in seconds.
pub const CERTIFICATE_S_MAX: u64 = 86_400;
/// Longest life of a ticket, in seconds.
pub const TICKET_S_MAX: u64 = 2_592_000;
/// Most nodes a revocation names. Certificates it named expire by themselves.
pub const REVOKED_MAX: usize = 1024;
/// Longest step of a pairing.
pub const PAIRING_BYTES_MAX: usize = 1024;
