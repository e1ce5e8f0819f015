//! What the owner of a machine gives to others at most, as options and settings, and keeping to it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use shoal_node::{
    Hours, Node, OwnerRules, POWER_SUPPLIES, Power, Rest, RestReason, Sight,
    UPLOAD_BYTES_PER_S_MIN, minute_of_day, power, wall_s,
};

use crate::failure::Failure;
use crate::output;
use crate::session::{Session, check_threads};

/// How often it is seen whether the owner still lets this node compute.
pub(crate) const MIND_EVERY: Duration = Duration::from_secs(1);
/// How long those who use a node that is to rest have to move.
const REST_DRAIN: Duration = Duration::from_secs(120);

/// Settings, in the table `serve` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServeConfig {
    cores: Option<NonZeroUsize>,
    memory_mib: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "hours")]
    hours: Option<Hours>,
    #[serde(default)]
    not_on_battery: bool,
    upload_kb_per_s: Option<NonZeroU32>,
}

impl ServeConfig {
    fn rules(&self) -> OwnerRules {
        OwnerRules { hours: self.hours, not_on_battery: self.not_on_battery }
    }
}

/// Options of commands that compute for others.
#[derive(Debug, clap::Args)]
pub(crate) struct Limits {
    /// Threads that compute for others; the configuration or --threads unless given
    #[arg(long, value_name = "N")]
    cores: Option<NonZeroUsize>,

    /// Memory for weights and caches; the configuration or most of what is free unless given
    #[arg(long, value_name = "MIB")]
    memory: Option<NonZeroU32>,

    /// Hours to compute in, such as 22:00-07:00 in the time of this machine, or 22:00-07:00Z in
    /// UTC; the configuration or all unless given. Outside of them it takes nothing new, and those
    /// who use it have two minutes to move
    #[arg(long, value_name = "FROM-UNTIL")]
    hours: Option<Hours>,

    /// Rest in the same way while a battery feeds this machine
    #[arg(long)]
    not_on_battery: bool,

    /// It computes for the owner of this machine: the configuration limits nothing
    #[arg(long, hide = true)]
    for_owner: bool,

    /// Folder in which the system says what feeds this machine
    #[arg(long, value_name = "FOLDER", hide = true, default_value = POWER_SUPPLIES)]
    power_supplies: PathBuf,
}

/// The option that each command with a node has.
#[derive(Debug, clap::Args)]
pub(crate) struct UploadLimit {
    /// Most that is sent to other nodes, in kilobytes (1000 bytes) per second; the configuration or
    /// no bound unless given
    #[arg(long, value_name = "KB_PER_S")]
    max_upload: Option<NonZeroU32>,
}

impl UploadLimit {
    /// Bytes per second, if there is a bound.
    pub(crate) fn bytes_per_s(&self, config: &ServeConfig) -> Result<Option<u64>, Failure> {
        let kilobytes = self.max_upload.or(config.upload_kb_per_s);
        let bytes = kilobytes.map(|kilobytes| u64::from(kilobytes.get()) * 1000);
        match bytes.filter(|bytes| *bytes < UPLOAD_BYTES_PER_S_MIN) {
            Some(_) => {
                let least = UPLOAD_BYTES_PER_S_MIN.div_ceil(1000);
                let message = format!("nothing arrives in time with so little; {least} KB/s least");
                Err(Failure::usage(message))
            }
            None => Ok(bytes),
        }
    }
}

impl Limits {
    /// What the configuration says.
    pub(crate) fn config(&self, session: &Session) -> ServeConfig {
        match self.for_owner {
            true => ServeConfig::default(),
            false => session.config.serve.clone(),
        }
    }

    /// Threads that compute.
    pub(crate) fn threads(&self, session: &Session) -> Result<usize, Failure> {
        let cores = self.cores.or(self.config(session).cores);
        cores.map_or(Ok(session.threads), check_threads)
    }

    /// Memory for weights and caches, if it was said.
    pub(crate) fn memory_bytes(&self, session: &Session) -> Option<u64> {
        let mib = self.memory.or(self.config(session).memory_mib);
        mib.map(|mib| u64::from(mib.get()) << 20)
    }

    /// Begins to look whether the node may compute.
    pub(crate) fn mind(&self, session: &Session) -> Result<Minding, Failure> {
        let config = self.config(session).rules();
        let rules = OwnerRules {
            hours: self.hours.or(config.hours),
            not_on_battery: self.not_on_battery || config.not_on_battery,
        };
        minute_now(rules.hours)?;
        let supplies = self.power_supplies.clone();
        if rules.not_on_battery && power(&supplies) == Power::Unknown {
            output::note("this machine does not say what feeds it, which counts as mains");
        }
        Ok(Minding { rules, supplies, rest: Rest::new(rules), started: Instant::now() })
    }
}

/// Looks again and again whether a node may compute, and tells it.
#[derive(Debug)]
pub(crate) struct Minding {
    rules: OwnerRules,
    supplies: PathBuf,
    rest: Rest,
    started: Instant,
}

impl Minding {
    /// Looks once.
    pub(crate) fn look(&mut self, node: &Node) -> Result<(), Failure> {
        let power = match self.rules.not_on_battery {
            true => power(&self.supplies),
            false => Power::Unknown,
        };
        let minute = minute_now(self.rules.hours)?;
        let sight = Sight { since: self.started.elapsed(), minute, power };
        let Some(reasons) = self.rest.look(sight) else {
            return Ok(());
        };
        node.rest(reasons, REST_DRAIN)?;
        match reasons {
            [] => output::note("computes for others again"),
            reasons => output::note(&format!("rests: {}", words(reasons).join("; "))),
        }
        Ok(())
    }
}

/// Why `shoal serve` would rest if it ran now, as far as the configuration says.
pub(crate) fn would_rest(session: &Session) -> Result<Vec<String>, Failure> {
    let rules = session.config.serve.rules();
    let reasons = rules.reasons(minute_now(rules.hours)?, power(POWER_SUPPLIES.as_ref()));
    Ok(words(&reasons))
}

/// Reasons in words.
pub(crate) fn words(reasons: &[RestReason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn minute_now(hours: Option<Hours>) -> Result<u16, Failure> {
    minute_of_day(hours, wall_s()).map_err(|error| Failure::usage(error.to_string()))
}

fn hours<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Option<Hours>, D::Error> {
    let text = String::deserialize(text)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
