//! `shoal serve`: layers of a model, computed for the heads that were named.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::mpsc::channel;

use serde_json::json;
use shoal_base::Digest;
use shoal_node::{Node, NodeConfig, NodeId, ServeOptions};

use crate::failure::Failure;
use crate::models::{self, ModelName};
use crate::nodes::{self, Key, Span};
use crate::session::Session;
use crate::{interrupt, output, progress};

/// Arguments of `shoal serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    name: ModelName,

    /// Layers to compute, the first and the last, counted from 0: 0-11; all unless given
    #[arg(long, value_name = "A-B")]
    layers: Option<Span>,

    /// Address and port to listen on for other nodes; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(
        IpAddr::V4(Ipv4Addr::LOCALHOST), 0
    ))]
    listen: SocketAddr,

    #[command(flatten)]
    key: Key,

    /// Node that may ask for these layers, as often as wanted; nobody else may connect
    #[arg(long, value_name = "NODE", required = true)]
    head: Vec<HeadId>,

    /// Tokens kept for all requests together
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().cache_tokens)]
    cache_tokens: u32,

    /// End when standard input ends, so that whoever started this is not outlived
    #[arg(long)]
    until_stdin_ends: bool,
}

/// A node that may use this one.
#[derive(Clone, Copy, Debug)]
struct HeadId(NodeId);

impl FromStr for HeadId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest: Digest = text.parse().map_err(|_| "64 lower-case hex digits")?;
        Ok(Self(NodeId(digest.0)))
    }
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let package = models::find(session, &args.name.model)?;
    let count = nodes::layer_count(&package)?;
    let span = args.layers.unwrap_or(Span { first: 0, last: count - 1 });
    let layers = span.range(count)?;
    let mut config = NodeConfig::new(args.key.secret()?, args.listen);
    config.heads = args.head.iter().map(|head| head.0).collect();
    let node = Node::start(config)?;
    let busy = progress::busy(&format!("loading {}", args.name.model), session.json);
    let options = ServeOptions {
        threads: session.threads,
        cache_tokens: args.cache_tokens,
        ..ServeOptions::default()
    };
    node.serve(&package, layers, options)?;
    busy.finish_and_clear();
    interrupt::watch();
    let address = node.address().to_string();
    let Span { first, last } = span;
    match session.json {
        true => output::json(&json!({ "node": address, "layers": [first, last] }))?,
        false => output::text(&format!("node    {address}\nlayers  {first}-{last}\n"))?,
    }
    let (asked, asks) = channel();
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
    let _ = asks.recv();
    drop(node);
    Ok(ExitCode::SUCCESS)
}
