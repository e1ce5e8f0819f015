//! The models of `shoal up` in a swarm: computed by members, or by this process where that is
//! faster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_base::Generate;
use shoal_engine::EngineOptions;
use shoal_gateway::{Models, Offer, OpenError, SwarmMap};
use shoal_model::package::Package;
use shoal_node::{HeadOptions, RingHead, Shadows};

use crate::commands::up::expected_speed;
use crate::failure::Failure;
use crate::map;
use crate::serving::OnDemand;
use crate::session::Session;
use crate::swarming::Member;

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Whoever is faster.
    Auto,
    /// This process.
    Here,
    /// Members of the swarm, this process never.
    Swarm,
}

/// Models, each with a ring, and with this process unless only the swarm is to compute.
pub(crate) struct OverSwarm {
    rings: Vec<(String, Arc<RingHead>)>,
    here: Option<OnDemand>,
    /// Tokens per second of this process, once they were measured.
    speeds: Mutex<BTreeMap<String, f64>>,
    member: Member,
}

impl OverSwarm {
    /// Starts a head for each model.
    pub(crate) fn start(
        session: &Session,
        member: Member,
        packages: Vec<(String, Package)>,
        options: EngineOptions,
        choice: Choice,
        shadows: Shadows,
    ) -> Result<Self, Failure> {
        let mut head = HeadOptions { threads: session.threads, ..HeadOptions::default() };
        head.policy.shadows = shadows;
        let mut rings = Vec::new();
        for (name, package) in &packages {
            let ring = member.node.lead(package, name, head)?;
            rings.push((name.clone(), Arc::new(ring)));
        }
        let here = match choice {
            Choice::Swarm => None,
            Choice::Auto | Choice::Here => {
                let here = OnDemand::new(packages, options);
                here.load_first()?;
                Some(here)
            }
        };
        Ok(Self { rings, here, speeds: Mutex::new(BTreeMap::new()), member })
    }

    /// The first model, as whoever computes now has it.
    pub(crate) fn first(&self) -> Option<Arc<dyn Generate>> {
        let (name, ring) = self.rings.first()?;
        let here = self.here.as_ref().and_then(|here| here.open(name).ok());
        Some(here.unwrap_or_else(|| Arc::clone(ring) as Arc<dyn Generate>))
    }

    /// Whether this process computes too.
    pub(crate) fn computes(&self) -> bool {
        self.here.is_some()
    }

    /// Remembers how fast a model is here.
    pub(crate) fn expect(&self, name: &str, speed: f64) {
        let mut speeds = self.speeds.lock().unwrap_or_else(PoisonError::into_inner);
        speeds.insert(name.to_owned(), speed);
    }

    /// Who and where this node is.
    pub(crate) fn address(&self) -> String {
        self.member.address()
    }

    /// Leaves the swarm in order. Nobody waits for it: it only led.
    pub(crate) fn leave(&self) {
        // It ends in any case; those that know it notice without being told.
        let _ = self.member.node.leave(std::time::Duration::ZERO);
    }

    /// How fast this process is, measured when it is first asked.
    fn speed_here(&self, name: &str, engine: &dyn Generate) -> Option<f64> {
        let known = self.speeds.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        known.or_else(|| {
            let speed = expected_speed(engine)?;
            self.expect(name, speed);
            Some(speed)
        })
    }
}

impl Models for OverSwarm {
    fn offers(&self) -> Vec<Offer> {
        let here = self.here.as_ref().map(OnDemand::offers).unwrap_or_default();
        let load = |name: &str| here.iter().find(|offer| offer.name == name)?.load;
        let offer = |(name, ring): &(String, Arc<RingHead>)| Offer {
            name: name.clone(),
            card: Some(ring.card().clone()),
            load: load(name),
        };
        self.rings.iter().map(offer).collect()
    }

    fn map(&self) -> Option<SwarmMap> {
        let view = self.member.node.swarm().ok()?;
        let members = view.members.iter().filter(|member| map::is_shown(member));
        Some(SwarmMap {
            node: view.node.to_string(),
            members: members.map(|member| map::member(member, &self.rings)).collect(),
            rings: self.rings.iter().map(|(name, ring)| map::ring(name, ring)).collect(),
        })
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        let ring = self.rings.iter().find(|(known, _)| known == name);
        let ring = ring.ok_or_else(|| OpenError::Unknown { name: name.to_owned() })?;
        let ring = Arc::clone(&ring.1) as Arc<dyn Generate>;
        let Some(here) = &self.here else {
            return Ok(ring);
        };
        let plan = self.rings.iter().find(|(known, _)| known == name);
        let plan = plan.and_then(|(_, ring)| ring.status().plan);
        match (here.open(name), plan) {
            (Ok(engine), None) => Ok(engine),
            (Ok(engine), Some(plan)) => {
                let speed = self.speed_here(name, &*engine);
                let is_faster = speed.is_none_or(|speed| plan.tokens_per_s > speed);
                Ok(if is_faster { ring } else { engine })
            }
            // What does not fit here may fit there.
            (Err(_), Some(_)) => Ok(ring),
            (Err(error), None) => Err(error),
        }
    }
}
