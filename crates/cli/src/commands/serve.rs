//! `shoal serve`: layers of a model, computed for the members of a swarm, or for the heads that
//! were named.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use shoal_base::{Digest, PackageId};
use shoal_model::package::Package;
use shoal_node::{
    LayerRange, MemberOptions, Node, NodeConfig, NodeId, PeerAddress, PrepareOptions, ServeOptions,
    serve_bytes,
};

use crate::failure::{Code, Failure};
use crate::models::{self, ModelName};
use crate::nodes::{self, Key, Span};
use crate::owner::{Limits, MIND_EVERY, UploadLimit};
use crate::public::Public;
use crate::relays::{self, Relays};
use crate::session::Session;
use crate::swarming::{self, Member};
use crate::ways::Ways;
use crate::{interrupt, layers, memory, output, progress};

/// How long to wait for what other members hold.
const HEAR_FOR: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `shoal serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    name: ModelName,

    /// Layers to compute, the first and the last, counted from 0: 0-11; `auto`: as many as fit into
    /// the memory, those first that few others have; `asked`: those that a head asks for, of any
    /// model that it may use, fetched and loaded then
    #[arg(long, value_name = "auto|asked|A-B", default_value = "auto")]
    layers: Layers,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    upload: UploadLimit,

    /// Address and port to listen on for other nodes; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = swarming::LISTEN)]
    listen: SocketAddr,

    #[command(flatten)]
    key: Key,

    /// Node that may ask for these layers, as often as wanted; nobody else may connect. Without it
    /// the members of the swarm may
    #[arg(long, value_name = "NODE")]
    head: Vec<HeadId>,

    /// Node that has layers which are not here, as often as wanted: ID@ADDRESS:PORT. They are
    /// fetched from all of these at once before they are served
    #[arg(long, value_name = "NODE@ADDRESS")]
    from: Vec<PeerAddress>,

    #[command(flatten)]
    relays: Relays,
    #[command(flatten)]
    public: Public,

    /// Tokens kept for all requests together
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().cache_tokens)]
    cache_tokens: u32,

    /// End when standard input ends, so that whoever started this is not outlived
    #[arg(long)]
    until_stdin_ends: bool,
}

impl Args {
    fn serve_options(&self, session: &Session) -> Result<ServeOptions, Failure> {
        Ok(ServeOptions {
            threads: self.limits.threads(session)?,
            cache_tokens: self.cache_tokens,
            ..ServeOptions::default()
        })
    }

    /// Memory for weights and caches.
    fn budget(&self, session: &Session) -> u64 {
        let available = memory::available_bytes().map(|bytes| bytes / 10 * 8);
        self.limits.memory_bytes(session).or(available).unwrap_or(u64::MAX)
    }
}

/// Which layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    Auto,
    Asked,
    Span(Span),
}

impl FromStr for Layers {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "asked" => Ok(Self::Asked),
            _ => text.parse().map(Self::Span),
        }
    }
}

/// A node that may use this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadId(pub(crate) NodeId);

impl FromStr for HeadId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest: Digest = text.parse().map_err(|_| "64 lower-case hex digits")?;
        Ok(Self(NodeId(digest.0)))
    }
}

/// What serves, and for whom.
enum Serving {
    /// Heads that were named.
    Named(Box<Node>),
    /// The members of a swarm.
    Member(Member),
}

impl Serving {
    fn node(&self) -> &Node {
        match self {
            Self::Named(node) => node,
            Self::Member(member) => &member.node,
        }
    }
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let here = match args.from.is_empty() {
        true => Some(models::find(session, &args.name.model)?),
        false => None,
    };
    if let (Some(package), Layers::Span(span)) = (&here, args.layers) {
        span.range(nodes::layer_count(package)?)?;
    }
    interrupt::watch();
    let (asked, asks) = channel();
    let mut minding = args.limits.mind(session)?;
    let serving = start(session, args, asked.clone())?;
    minding.look(serving.node())?;
    let package = match here {
        Some(package) => package,
        None => fetch(session, args, serving.node())?,
    };
    let options = args.serve_options(session)?;
    let layers = match args.layers {
        Layers::Asked => {
            serving.node().hold(&package)?;
            None
        }
        _ => {
            let budget = args.budget(session);
            let (layers, free) = choose(args, budget, &serving, &package, options)?;
            let busy = progress::busy(&format!("loading {}", args.name.model), session.json);
            serving.node().serve(&package, layers, options)?;
            serving.node().set_memory_free(free)?;
            busy.finish_and_clear();
            Some(layers)
        }
    };
    say(session, serving.node(), layers)?;
    if args.until_stdin_ends {
        let ended = asked.clone();
        std::thread::spawn(move || {
            // Whatever comes is ignored; an error is an end too.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = ended.send(());
        });
    }
    let _guard = interrupt::on_ask(move || {
        // The command is gone already when nobody receives it.
        let _ = asked.send(());
    });
    // The sender lives as long as the guard.
    let mut ways = Ways::default();
    while asks.recv_timeout(MIND_EVERY) == Err(RecvTimeoutError::Timeout) {
        minding.look(serving.node())?;
        if let Serving::Named(node) = &serving {
            ways.look(node)?;
        }
    }
    if let Serving::Member(member) = serving {
        member.leave(swarming::DRAIN);
    }
    Ok(ExitCode::SUCCESS)
}

/// The layers to serve, from nodes that have them.
fn fetch(session: &Session, args: &Args, node: &Node) -> Result<Package, Failure> {
    let range = match args.layers {
        Layers::Auto | Layers::Asked => None,
        Layers::Span(span) => Some(nodes::range(span.first, span.last.saturating_add(1))?),
    };
    let package = layers::fetch(session, node, &args.name.model, range, &args.from)?;
    if let Layers::Span(span) = args.layers {
        span.range(nodes::layer_count(&package)?)?;
    }
    Ok(package)
}

fn start(session: &Session, args: &Args, ended: Sender<()>) -> Result<Serving, Failure> {
    let upload_bytes_per_s = args.upload.bytes_per_s(&args.limits.config(session))?;
    let (relays, discovery) = (args.relays.all(session), args.public.published(session));
    let prepare = match args.layers {
        Layers::Asked => Some(PrepareOptions {
            serve: args.serve_options(session)?,
            memory_bytes: args.budget(session),
        }),
        _ => None,
    };
    if !args.head.is_empty() {
        let mut config = NodeConfig::new(args.key.secret()?, args.listen);
        config.heads = args.head.iter().map(|head| head.0).collect();
        config.store = Some(session.store()?.clone());
        config.upload_bytes_per_s = upload_bytes_per_s;
        (config.relays, config.discovery, config.prepare) = (relays, discovery, prepare);
        let node = Node::start(config)?;
        relays::warn(&node.relays());
        return Ok(Serving::Named(Box::new(node)));
    }
    if args.key.is_given() {
        return Err(Failure::usage("--key is for --head; a member has the key of its data folder"));
    }
    if !swarming::is_member(session) {
        let message = "this data folder is in no swarm: join one with `shoal swarm join`, or name \
                       who may ask with --head NODE";
        return Err(Failure::usage(message));
    }
    let options = MemberOptions::new(args.listen);
    let options = MemberOptions { upload_bytes_per_s, relays, discovery, prepare, ..options };
    Member::start(session, options, ended).map(Serving::Member)
}

/// The layers to serve, and how much memory is left.
fn choose(
    args: &Args,
    budget: u64,
    serving: &Serving,
    package: &Package,
    options: ServeOptions,
) -> Result<(LayerRange, u64), Failure> {
    let count = nodes::layer_count(package)?;
    let cost = |layers: LayerRange| serve_bytes(package, layers, options);
    let layers = match args.layers {
        Layers::Span(span) => nodes::range(span.first, span.last + 1)?,
        Layers::Auto | Layers::Asked => {
            let each = cost(nodes::range(0, count)?).div_ceil(u64::from(count)).max(1);
            let fitting = u16::try_from(budget / each).unwrap_or(u16::MAX).min(count).max(1);
            let held = match (fitting < count, serving) {
                (true, Serving::Member(member)) => held_by_others(member, package.id())?,
                _ => Vec::new(),
            };
            let first = nodes::least_held(count, fitting, &held);
            nodes::range(first, first + fitting)?
        }
    };
    let needed = cost(layers);
    if needed > budget {
        let (needed, budget) = (output::bytes(needed), output::bytes(budget));
        let message = format!("these layers and their caches take {needed}, there is {budget}");
        return Err(Failure::new(Code::NoRoom, message));
    }
    Ok((layers, budget - needed))
}

/// What others hold, once somebody has been heard of, or after a short while.
fn held_by_others(member: &Member, package: PackageId) -> Result<Vec<LayerRange>, Failure> {
    let started = Instant::now();
    loop {
        let held = member.node.loaded_elsewhere(package)?;
        if !held.is_empty() || started.elapsed() > HEAR_FOR {
            return Ok(held);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn say(session: &Session, node: &Node, layers: Option<LayerRange>) -> Result<(), Failure> {
    let address = node.address().to_string();
    let span = layers.map(|layers| (layers.first, layers.end - 1));
    match (session.json, span) {
        (true, _) => output::json(&json!({
            "node": address,
            "layers": span,
            "relays": relays::json(&node.relays()),
        })),
        (false, Some((first, last))) => {
            output::text(&format!("node    {address}\nlayers  {first}-{last}\n"))
        }
        (false, None) => {
            output::text(&format!("node    {address}\nlayers  those that a head asks for\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_a_span_or_chosen() {
        assert_eq!("0-11".parse(), Ok(Layers::Span(Span { first: 0, last: 11 })));
        assert_eq!("auto".parse(), Ok(Layers::Auto));
        assert_eq!("asked".parse(), Ok(Layers::Asked));
        assert!("automatic".parse::<Layers>().is_err());
    }
}
