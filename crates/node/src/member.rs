//! What the owner of a running node asks of it as a member of a swarm.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use shoal_base::PackageId;
use shoal_model::package::{BlobKind, Package};
use shoal_swarm::{HeadPolicy, Plan};
use shoal_wire::{LayerRange, NodeId, SwarmRole};

use crate::driver::{Command, Driver};
use crate::limits::ASK_FOR;
use crate::node::{arithmetic, shape, want};
use crate::{NoPlan, Node, NodeError, RestReason, SwarmView};

/// How often it is looked whether a node that leaves is still needed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the last words take to be sent.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl Node {
    /// Does something between two events of the loop.
    fn ask<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let (sender, answer) = channel();
        self.tell(Command::Do(Box::new(move |driver| {
            // Nobody waits any more when it took too long.
            let _ = sender.send(action(driver));
        })))?;
        answer.recv_timeout(ASK_FOR).map_err(|_| NodeError::Stopped)
    }

    /// A ticket for one use, as text.
    ///
    /// # Errors
    /// This node may not give that.
    pub fn invite(
        &self,
        role: SwarmRole,
        models: &[PackageId],
        lives: Duration,
    ) -> Result<String, NodeError> {
        let models = models.to_vec();
        Ok(self.ask(move |driver| driver.invite(role, &models, lives.as_secs()))??)
    }

    /// Revokes a node: no member that hears of it has anything to do with it any more. Gives back
    /// how many revocations there were.
    ///
    /// # Errors
    /// This node is not the owner's.
    pub fn revoke(&self, node: NodeId) -> Result<u64, NodeError> {
        Ok(self.ask(move |driver| driver.revoke(node))??)
    }

    /// The swarm as this node sees it.
    ///
    /// # Errors
    /// It is in none, or has stopped.
    pub fn swarm(&self) -> Result<SwarmView, NodeError> {
        self.ask(Driver::view)?.ok_or(NodeError::NoMember)
    }

    /// Plans for a package, best first, or why there is none.
    ///
    /// # Errors
    /// The package is beyond the limits of the protocol, or the node has stopped.
    pub fn plans(&self, package: &Package) -> Result<Result<Vec<Plan>, NoPlan>, NodeError> {
        let (model, want) = (shape(package)?, want(&HeadPolicy::default()));
        self.ask(move |driver| driver.plans(model, want))
    }

    /// Layers of a package that others hold in memory, each as often as it is held.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn loaded_elsewhere(&self, package: PackageId) -> Result<Vec<LayerRange>, NodeError> {
        self.ask(move |driver| driver.loaded_elsewhere(package))
    }

    /// Says which layers of a package are on the disk here, to be loaded when a head asks
    /// ([`crate::NodeConfig::prepare`]): nobody has to send them.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn hold(&self, package: &Package) -> Result<(), NodeError> {
        let (id, architecture) = (package.id(), &package.manifest().architecture);
        let width = architecture.model_width;
        // Layers beyond what the protocol can name cannot be served at all.
        let count = u16::try_from(architecture.layer_count).unwrap_or(u16::MAX);
        let is_here = |layer: &u16| package.bytes(BlobKind::Layer(u32::from(*layer))).is_ok();
        let one = |first| LayerRange { first, end: first + 1 };
        let layers: Vec<LayerRange> = (0..count).filter(is_here).map(one).collect();
        self.ask(move |driver| driver.hold(id, width, arithmetic(), &layers))
    }

    /// Says how much memory this node may still give to weights and caches.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn set_memory_free(&self, bytes: u64) -> Result<(), NodeError> {
        self.ask(move |driver| driver.set_memory_free(bytes))
    }

    /// Everybody there is a connection to now, and whether packets go over a relay.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn ways(&self) -> Result<Vec<(NodeId, bool)>, NodeError> {
        self.ask(|driver| driver.ways())
    }

    /// Computes nothing for others from now on, for these reasons; with none of them it does again.
    /// Those who use this node have `drain` to move; nobody waits for them here.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn rest(&self, reasons: &[RestReason], drain: Duration) -> Result<(), NodeError> {
        let reasons = reasons.to_vec();
        self.ask(move |driver| driver.rest(reasons, drain))
    }

    /// Leaves in order: takes nothing new, waits until the heads that use this node have moved, at
    /// most for `drain`, and says that it is gone. Stop the node after that.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn leave(&self, drain: Duration) -> Result<(), NodeError> {
        let started = Instant::now();
        self.ask(move |driver| driver.drain(drain))?;
        while started.elapsed() < drain && self.ask(|driver| driver.lease_count())? > 0 {
            std::thread::sleep(LOOK_EVERY);
        }
        self.ask(Driver::say_left)?;
        std::thread::sleep(LAST_WORDS);
        Ok(())
    }
}
