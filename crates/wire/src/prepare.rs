//! Getting layers ready before a ring needs them. Spec 03, 5.4.

use shoal_base::PackageId;

use crate::LayerRange;
use crate::codec::{choice, record};

record! {
    /// A head asks a node to hold layers: to fetch what is missing and load it. A wish, not a
    /// right; the node's owner decides.
    #[derive(Copy)]
    pub struct Prepare {
        /// The model.
        pub package: PackageId,
        /// The layers.
        pub layers: LayerRange,
    }
}

choice! {
    /// How far a node is.
    pub enum PrepareState: u8 {
        /// It will not.
        Refused = 1,
        /// It is fetching layers.
        Fetching = 2,
        /// It is loading layers.
        Loading = 3,
        /// A lease would be granted.
        Ready = 4,
    }
}

record! {
    /// Sent when the state changes, and once per second while it fetches.
    #[derive(Copy)]
    pub struct PrepareStatus {
        /// The model.
        pub package: PackageId,
        /// The layers.
        pub layers: LayerRange,
        /// How far it is.
        pub state: PrepareState,
        /// What is still to be fetched.
        pub bytes_left: u64,
    }
}
