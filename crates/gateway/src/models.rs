//! Where models come from. Whoever starts the endpoint says which there are.

use std::sync::Arc;

use shoal_base::{Generate, ModelCard};

use crate::swarm::SwarmMap;

/// Models by name. Called from threads that may block.
pub trait Models: Send + Sync {
    /// Every model, the default one first.
    fn offers(&self) -> Vec<Offer>;

    /// A model ready to answer; loads it if it must.
    ///
    /// # Errors
    /// There is no such model, or it cannot be loaded now.
    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError>;

    /// The model that [`Self::open`] would give, the default one without a name, if that takes no
    /// time at all. Must not block.
    fn loaded(&self, name: Option<&str>) -> Option<Arc<dyn Generate>> {
        let _ = name;
        None
    }

    /// Who computes; `None` when that is this process alone.
    fn map(&self) -> Option<SwarmMap> {
        None
    }
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// What it can do; absent until it is loaded.
    pub card: Option<ModelCard>,
    /// What it does now, if whoever computes can tell.
    pub load: Option<Load>,
}

/// What a model does now, and has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests being computed.
    pub running: u64,
    /// Requests waiting.
    pub waiting: u64,
    /// Part of the memory for keys and values that running requests hold, 0 to 1.
    pub kv_used: f64,
    /// Tokens of prompts looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Those found.
    pub prefix_hits: u64,
}

/// Why there is no such model to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No model of this name.
    #[error("there is no model {name:?}; /v1/models lists those there are")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// It is there but does not load.
    #[error("the model {name:?} cannot be loaded: {reason}")]
    Unavailable {
        /// The name asked for.
        name: String,
        /// What stands against it.
        reason: String,
    },
}
