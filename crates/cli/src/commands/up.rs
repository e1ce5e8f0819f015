//! `shoal up`: models behind an HTTP endpoint.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use shoal_base::{Flow, Generate, Prompt, Request, Timings, TokenEvent};
use shoal_gateway::{ApiKeys, Gateway, GatewayOptions, Models, StartError};
use shoal_model::package::Package;
use shoal_node::{MemberOptions, Node, Shadows};

use crate::failure::{Code, Failure};
use crate::import::name_of;
use crate::invited::Invited;
use crate::kept::Kept;
use crate::over_swarm::{Choice, OverSwarm};
use crate::owner::UploadLimit;
use crate::public::Public;
use crate::relays::Relays;
use crate::serving::OnDemand;
use crate::session::Session;
use crate::split::{Elsewhere, Split};
use crate::swarming::{self, Member};
use crate::ways::Ways;
use crate::{embedded, interrupt, models, output, progress};

const PORT: u16 = 11400;
/// How often it is seen whether models are still used.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How often kept answers that are too old are removed.
const SWEEP_AFTER: Duration = Duration::from_secs(60);
/// Tokens and time at most that the first screen's speed is measured with.
const SPEED_TOKENS: u32 = 32;
const SPEED_TIME: Duration = Duration::from_secs(1);

/// Arguments of `shoal up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model to serve, as often as wanted; the first one answers requests that name none
    #[arg(long, short, value_name = "MODEL", default_value = embedded::DEFAULT)]
    model: Vec<String>,

    /// Memory for keys and values of each model; the configuration or 1024 unless given
    #[arg(long, value_name = "MIB")]
    kv_cache_mib: Option<std::num::NonZeroU32>,

    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(
        IpAddr::V4(Ipv4Addr::LOCALHOST), PORT
    ))]
    listen: SocketAddr,

    /// Name of this machine under which it may be asked, besides localhost and IP addresses
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// File with the BLAKE3 hash of an API key on each line; anybody may ask unless given
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,

    /// Unload models that nobody asked for so long; never unless given
    #[arg(long, value_name = "SECONDS")]
    keep_alive_s: Option<u32>,

    /// Processes of this machine to split the layers of each model over
    #[arg(long, value_name = "N", conflicts_with = "keep_alive_s")]
    nodes: Option<std::num::NonZeroU16>,

    /// In a swarm: who computes; `auto` takes whoever is faster by what was measured
    #[arg(long, default_value = "auto", conflicts_with = "nodes")]
    route: Choice,

    /// In a swarm: address and port to listen on for other nodes; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = swarming::LISTEN)]
    swarm_listen: SocketAddr,
    #[command(flatten)]
    relays: Relays,
    #[command(flatten)]
    public: Public,
    #[command(flatten)]
    upload: UploadLimit,
    #[command(flatten)]
    elsewhere: Elsewhere,

    /// In a swarm, or with --stage: which requests have spares compute along, so that the death of
    /// a stage is made good at once; `long` means those that may come to 1024 tokens or more
    #[arg(long, default_value = "long", value_name = "REQUESTS")]
    shadows: ShadowsOf,

    /// How long open answers may go on after Ctrl-C or SIGTERM before they are cut
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_s: u32,
}

/// Which requests have shadows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ShadowsOf {
    /// None.
    Never,
    /// Those that may come to many tokens.
    Long,
    /// All.
    Always,
}

impl From<ShadowsOf> for Shadows {
    fn from(of: ShadowsOf) -> Self {
        match of {
            ShadowsOf::Never => Self::Never,
            ShadowsOf::Long => Self::Long,
            ShadowsOf::Always => Self::Always,
        }
    }
}

/// Runs the command.
/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Asked,
    /// The data folder has come into a swarm meanwhile.
    Joined,
}

/// Runs the command. Who joins a swarm meanwhile goes on as its member.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    while once(session, args)? == End::Joined {}
    Ok(ExitCode::SUCCESS)
}

/// The keys of those who may ask; `None` for everybody on this machine.
fn keys(args: &Args) -> Result<Option<ApiKeys>, Failure> {
    let keys = args.api_keys.as_ref().map(|path| {
        let keys = ApiKeys::open(path);
        keys.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    });
    let keys = keys.transpose()?;
    if keys.is_none() && !args.listen.ip().is_loopback() {
        let message = format!("{} can be reached by others; give --api-keys FILE", args.listen);
        return Err(Failure::usage(message));
    }
    Ok(keys)
}

fn once(session: &Session, args: &Args) -> Result<End, Failure> {
    let keys = keys(args)?;
    let packages = packages(session, args)?;
    let names: Vec<String> = packages.iter().map(|(name, _)| name.clone()).collect();
    let busy = progress::busy(&format!("loading {}", names[0]), session.json);
    let (asked, asks) = channel();
    let (served, first) = Served::start(session, args, packages, asked.clone())?;
    let chat = first.as_ref().is_some_and(|engine| engine.card().chat);
    let speed = first.filter(|_| served.is_here()).and_then(|engine| expected_speed(&*engine));
    served.expect(names.first(), speed);
    busy.finish_and_clear();
    let has_keys = keys.is_some();
    let kept = Kept::open(session)?;
    let mut options = GatewayOptions::new(args.listen);
    options.hosts.clone_from(&args.allow_host);
    options.keys = keys;
    options.kept = Some(kept.clone());
    interrupt::watch();
    let gateway = Gateway::start(served.models(), options)?;
    let screen = Screen { address: gateway.address(), names, chat, has_keys, speed };
    screen.show(session, served.node())?;
    let invited = Invited::new(session.home.clone(), args.relays.all(session));
    if !session.json && served.may_join(session) {
        invited.watch(asked.clone());
    }
    let _guard = interrupt::on_ask(move || {
        // The command is gone already when nobody receives it.
        let _ = asked.send(());
    });
    let mut swept = Instant::now();
    let mut ways = Ways::default();
    // It only ends when it is asked to; the sender lives as long as the guard.
    while asks.recv_timeout(LOOK_AFTER) == Err(RecvTimeoutError::Timeout) {
        if swept.elapsed() > SWEEP_AFTER {
            swept = Instant::now();
            kept.sweep();
        }
        if let Some(leader) = served.leader() {
            ways.look(leader)?;
        }
        if let (Some(seconds), Served::Here(models)) = (args.keep_alive_s, &served) {
            models.unload_idle(Duration::from_secs(seconds.into()));
        }
    }
    let all_finished = gateway.stop(Duration::from_secs(args.drain_s.into()));
    served.leave();
    if !all_finished {
        output::note("some answers were cut; their clients have been told");
    }
    Ok(if invited.has_joined() { End::Joined } else { End::Asked })
}

/// The models to serve, under their names.
fn packages(session: &Session, args: &Args) -> Result<Vec<(String, Package)>, Failure> {
    let mut packages: Vec<(String, Package)> = Vec::new();
    for model in &args.model {
        let package = models::find(session, model)?;
        let name = served_name(session, model)?;
        if packages.iter().any(|(other, _)| *other == name) {
            return Err(Failure::usage(format!("two models are called {name:?}")));
        }
        packages.push((name, package));
    }
    Ok(packages)
}

/// Who computes.
enum Served {
    /// This process.
    Here(Arc<OnDemand>),
    /// Other processes, of this machine or elsewhere.
    Split(Arc<Split>),
    /// Members of a swarm, or this process.
    Swarm(Arc<OverSwarm>),
}

impl Served {
    /// Loads models. Gives back the first one too.
    fn start(
        session: &Session,
        args: &Args,
        packages: Vec<(String, Package)>,
        ended: Sender<()>,
    ) -> Result<(Self, Option<Arc<dyn Generate>>), Failure> {
        let is_elsewhere = args.elsewhere.is_used()?;
        let is_split = is_elsewhere || args.nodes.is_some();
        if !is_split && args.route != Choice::Here && swarming::is_member(session) {
            let member = MemberOptions {
                relays: args.relays.all(session),
                upload_bytes_per_s: args.upload.bytes_per_s(&session.config.serve)?,
                discovery: args.public.published(session),
                ..MemberOptions::new(args.swarm_listen)
            };
            let member = Member::start(session, member, ended)?;
            let options = models::engine_options(session, args.kv_cache_mib)?;
            let shadows = args.shadows.into();
            let models = OverSwarm::start(session, member, packages, options, args.route, shadows)?;
            let first = models.first();
            return Ok((Self::Swarm(Arc::new(models)), first));
        }
        if args.route == Choice::Swarm {
            let message = "this data folder is in no swarm: join one with `shoal swarm join`";
            return Err(Failure::usage(message));
        }
        if (args.relays.is_given() || args.public.is_given()) && !is_elsewhere {
            let message = "--relay and --public are for a swarm, or for --stage";
            return Err(Failure::usage(message));
        }
        let split = match args.nodes {
            _ if is_elsewhere => {
                let relays = args.relays.all(session);
                let (shadows, discovery) = (args.shadows.into(), args.public.looked_up(session));
                Some(Split::over(session, &packages, &args.elsewhere, relays, shadows, discovery)?)
            }
            Some(count) => Some(Split::start(session, &packages, count.get())?),
            None => None,
        };
        let Some(split) = split else {
            let options = models::engine_options(session, args.kv_cache_mib)?;
            let models = OnDemand::new(packages, options);
            let first = models.load_first()?;
            return Ok((Self::Here(Arc::new(models)), first));
        };
        let first = split.first();
        Ok((Self::Split(Arc::new(split)), first))
    }

    fn models(&self) -> Arc<dyn Models> {
        match self {
            Self::Here(models) => Arc::clone(models) as Arc<dyn Models>,
            Self::Split(split) => Arc::clone(split) as Arc<dyn Models>,
            Self::Swarm(swarm) => Arc::clone(swarm) as Arc<dyn Models>,
        }
    }

    /// Whether the first model can be measured now: it is computed by processes that are there.
    fn is_here(&self) -> bool {
        match self {
            Self::Here(_) | Self::Split(_) => true,
            Self::Swarm(swarm) => swarm.computes(),
        }
    }

    /// Whether this process could go on as a member of a swarm.
    fn may_join(&self, session: &Session) -> bool {
        matches!(self, Self::Here(_)) && !swarming::is_member(session)
    }

    /// The node that leads stages which are named and run elsewhere.
    fn leader(&self) -> Option<&Node> {
        match self {
            Self::Split(split) => split.leader(),
            _ => None,
        }
    }

    /// Remembers how fast a model is here.
    fn expect(&self, name: Option<&String>, speed: Option<f64>) {
        if let (Self::Swarm(swarm), Some(name), Some(speed)) = (self, name, speed) {
            swarm.expect(name, speed);
        }
    }

    /// Who and where this node is for others.
    fn node(&self) -> Option<String> {
        match self {
            Self::Swarm(swarm) => Some(swarm.address()),
            _ => None,
        }
    }

    /// Leaves the swarm in order.
    fn leave(&self) {
        if let Self::Swarm(swarm) = self {
            swarm.leave();
        }
    }
}

/// Tokens per second of one short answer, measured on the engine itself; none, when it fails or is
/// too short to say.
pub(crate) fn expected_speed(engine: &dyn Generate) -> Option<f64> {
    let mut request = Request::new(Prompt::Text("a".to_owned()));
    request.sampling.temperature = 0.0;
    request.stop.tokens_max = Some(SPEED_TOKENS);
    request.stop.ignore_end_of_turn = true;
    let (sender, timings) = channel();
    let mut begun = None;
    let sink = move |event| {
        if let TokenEvent::Finished { usage, timings, .. } = event {
            // Nobody waits any more when the command was interrupted.
            let _ = sender.send((usage.completion_tokens, timings));
            return Flow::Stop;
        }
        match begun.get_or_insert_with(Instant::now).elapsed() < SPEED_TIME {
            true => Flow::Continue,
            false => Flow::Stop,
        }
    };
    let _generation = engine.submit(request, Box::new(sink)).ok()?;
    let (tokens, Timings { decode_us, .. }) = timings.recv().ok()?;
    // The first token comes with the prompt.
    (tokens > 1 && decode_us > 0).then(|| f64::from(tokens - 1) * 1e6 / decode_us as f64)
}

/// A path is called by the name of its file, so that no client learns about folders.
fn served_name(session: &Session, model: &str) -> Result<String, Failure> {
    let is_path = session.store()?.find(model).is_err() && Path::new(model).exists();
    Ok(if is_path { name_of(Path::new(model)).to_string() } else { model.to_owned() })
}

/// What is printed once it serves.
struct Screen {
    address: SocketAddr,
    names: Vec<String>,
    chat: bool,
    has_keys: bool,
    speed: Option<f64>,
}

impl Screen {
    fn show(&self, session: &Session, node: Option<String>) -> Result<(), Failure> {
        match session.json {
            true => output::json(&json!({
                "address": self.address.to_string(),
                "models": self.names,
                "decode_tokens_per_s": self.speed,
                "node": node,
            })),
            false => output::text(&self.text(node)),
        }
    }

    fn text(&self, node: Option<String>) -> String {
        let Self { address, names, .. } = self;
        let node = node.map_or(String::new(), |node| format!("node     {node}\n"));
        let key = if self.has_keys { " -H \"Authorization: Bearer $KEY\"" } else { "" };
        let first = names.first().map_or("", String::as_str);
        let (path, body) = match self.chat {
            true => {
                let messages = json!([{ "role": "user", "content": "Hello" }]);
                ("chat/completions", json!({ "model": first, "messages": messages }))
            }
            false => ("completions", json!({ "model": first, "prompt": "Once upon a time" })),
        };
        // The first model answers; more at once are faster together.
        let speed = self.speed.map_or(String::new(), |speed| {
            format!("speed    {speed:.1} tokens/s for one answer of {first}, just measured\n")
        });
        // Single quotes end at a single quote.
        let body = body.to_string().replace('\'', "'\\''");
        format!(
            "console  http://{address}/\nAPI      http://{address}/v1\nmodels   {}\n{speed}{node}\n\
             curl http://{address}/v1/{path}{key} \\\n  -d '{body}'\n\nCtrl-C ends it.\n",
            names.join(", "),
        )
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Code::Failed, error.to_string())
    }
}
