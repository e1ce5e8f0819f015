//! One ring of this node: its state machine, its plan, its thread, and what went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender as Jobs;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shoal_base::GenerateError;
use shoal_swarm::{AdmitError, Failure, Head, HeadEffect, HeadEvent, Members, Moment};
use shoal_wire::{NodeId, RequestId};

use crate::head::{Asked, HeadJob};
use crate::limits::RETRY_AFTER_MS;
use crate::ring::{RingStatus, Shared};
use crate::way::Way;

/// A ring.
pub(crate) struct Slot {
    pub(crate) head: Head,
    pub(crate) way: Way,
    jobs: Jobs<HeadJob>,
    shared: Arc<Shared>,
    /// How long to look for a way.
    patience: Duration,
    /// Requests that run or wait, and why each is to fail if it is to.
    live: BTreeMap<RequestId, Option<GenerateError>>,
    down_since: Option<Moment>,
    /// Who was asked for a lease and has not answered.
    asked: BTreeSet<NodeId>,
    /// What last went wrong, and with whom.
    trouble: Option<(NodeId, String)>,
}

impl Slot {
    pub(crate) fn new(
        head: Head,
        way: Way,
        jobs: Jobs<HeadJob>,
        shared: Arc<Shared>,
        patience: Duration,
    ) -> Self {
        let live = BTreeMap::new();
        Self {
            head,
            way,
            jobs,
            shared,
            patience,
            live,
            down_since: None,
            asked: BTreeSet::new(),
            trouble: None,
        }
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        !self.live.is_empty()
    }

    pub(crate) fn live(&self) -> Vec<RequestId> {
        self.live.keys().copied().collect()
    }

    /// Tells the thread. It ends after this slot does.
    pub(crate) fn job(&self, job: HeadJob) {
        let _ = self.jobs.send(job);
    }

    pub(crate) fn begin(&mut self, request: RequestId, asked: Box<Asked>) {
        self.live.insert(request, None);
        self.job(HeadJob::Begin { request, asked });
    }

    /// The state machine does not take a request.
    pub(crate) fn refuse(&mut self, request: RequestId, error: AdmitError) {
        let error = match error {
            AdmitError::Context { prompt, answer, limit } => GenerateError::ContextLength {
                prompt_tokens: prompt,
                answer_tokens: answer,
                limit_tokens: limit.into(),
            },
            AdmitError::Busy { .. } => GenerateError::Overloaded { retry_after_ms: RETRY_AFTER_MS },
            other => GenerateError::Route { reason: other.to_string() },
        };
        self.live.remove(&request);
        self.job(HeadJob::Finish { request, error: Some(error) });
    }

    /// Why a request is about to be ended.
    pub(crate) fn reason(&mut self, request: RequestId, error: GenerateError) {
        if let Some(reason) = self.live.get_mut(&request) {
            *reason = Some(error);
        }
    }

    /// The state machine is done with a request.
    pub(crate) fn finished(&mut self, request: RequestId, failure: Option<Failure>) {
        let reason = self.live.remove(&request).flatten();
        let failed = failure.map(|failure| GenerateError::Route {
            reason: match failure {
                Failure::NoRoute => self.explain("no way through all layers"),
                Failure::Arithmetic => self.explain("a stage met a number that is not sound"),
                Failure::NoRoom => self.explain("a stage has no room"),
            },
        });
        self.job(HeadJob::Finish { request, error: reason.or(failed) });
    }

    /// A stage is asked for a lease.
    pub(crate) fn ask(&mut self, peer: NodeId) {
        self.asked.insert(peer);
    }

    /// A stage granted its lease.
    pub(crate) fn granted(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
        self.trouble.take_if(|(troubled, _)| *troubled == peer);
    }

    /// Who gets the rows of a stage of the present route.
    pub(crate) fn after(&self, peer: NodeId) -> Option<NodeId> {
        let stages = self.head.status().stages;
        let index = stages.iter().position(|stage| stage.node == peer)?;
        stages.get(index + 1).map(|stage| stage.node)
    }

    /// The other nodes of the present route, if `node` is part of it.
    pub(crate) fn mates(&self, node: NodeId) -> Vec<NodeId> {
        let stages = self.head.status().stages;
        let nodes = stages.iter().flat_map(|stage| [Some(stage.node), stage.shadow]).flatten();
        let nodes: Vec<NodeId> = nodes.collect();
        let is_mate = nodes.contains(&node);
        nodes.into_iter().filter(|mate| is_mate && *mate != node).collect()
    }

    pub(crate) fn note(&mut self, peer: NodeId, what: &str) {
        if self.way.names(peer) {
            self.asked.remove(&peer);
            self.trouble = Some((peer, what.to_owned()));
        }
    }

    /// Requests to fail because there has been no way for too long.
    pub(crate) fn hopeless(&mut self, now: Moment) -> Option<Vec<(RequestId, GenerateError)>> {
        if self.head.status().is_ready || self.live.is_empty() {
            self.down_since = None;
            return None;
        }
        let since = *self.down_since.get_or_insert(now);
        if now - since < self.patience {
            return None;
        }
        self.down_since = None;
        let reason = self.explain("no way through all layers");
        let failed = |request| (request, GenerateError::Route { reason: reason.clone() });
        Some(self.live().into_iter().map(failed).collect())
    }

    /// What the state machine does with an event, and who knows the nodes.
    pub(crate) fn handle(
        &mut self,
        event: HeadEvent,
        now: Moment,
        members: (&Members, NodeId),
        out: &mut Vec<HeadEffect>,
    ) -> Result<(), AdmitError> {
        let mut scout = self.way.scout(members);
        self.head.handle(event, now, &mut scout, out)
    }

    fn explain(&self, what: &str) -> String {
        if let Some(why) = self.way.why() {
            return format!("{what}; {why}");
        }
        match (&self.trouble, self.asked.first()) {
            (None, None) => what.to_owned(),
            (None, Some(peer)) => format!("{what}; {peer} does not answer"),
            (Some((peer, why)), _) => format!("{what}; last trouble: {peer} {why}"),
        }
    }

    /// Shows the ring to whoever asks.
    pub(crate) fn publish(&self) {
        let status = self.head.status();
        let trouble = self.trouble.as_ref();
        let status = RingStatus {
            generation: status.generation.0,
            stages: status.stages,
            is_ready: status.is_ready,
            replaced: status.replaced,
            replayed_tokens: status.replayed_tokens,
            plan: self.way.plan().cloned(),
            why: self.way.why().map_or_else(String::new, |why| why.to_string()),
            trouble: trouble.map_or_else(String::new, |(peer, why)| format!("{peer} {why}")),
        };
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
