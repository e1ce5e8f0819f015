//! Who is to blame for an error. The swarm acts on it, so every border error can say it.

/// The party an error is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request or the file is wrong; repeating it gives the same error.
    Caller,
    /// Another node sent something wrong; the offending bytes are the evidence.
    Peer,
    /// This machine cannot do it (memory, disk, load); another one may.
    Local,
}
