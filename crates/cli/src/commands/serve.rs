//! `shoal serve`: layers of a model, computed for the heads that were named.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::mpsc::channel;

use serde_json::json;
use shoal_base::Digest;
use shoal_node::{Node, NodeConfig, NodeId, PeerAddress, ServeOptions};

use crate::failure::Failure;
use crate::models::{self, ModelName};
use crate::session::Session;
use crate::{interrupt, layers, nodes, output, progress};

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

    /// Node that may ask for these layers, as often as wanted; nobody else may connect
    #[arg(long, value_name = "NODE", required = true)]
    head: Vec<HeadId>,

    /// Node that has layers which are not here, as often as wanted: ID@ADDRESS:PORT. They are
    /// fetched from all of these at once before they are served
    #[arg(long, value_name = "NODE@ADDRESS")]
    from: Vec<PeerAddress>,

    /// File with the key of this node, made when it is not there; a new key for each run unless
    /// given
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Most bytes of layers to send to other nodes in a second, in KiB; no limit unless given
    #[arg(long, value_name = "KIB")]
    max_upload: Option<NonZeroU32>,

    /// Tokens kept for all requests together
    #[arg(long, value_name = "N", default_value_t = ServeOptions::default().cache_tokens)]
    cache_tokens: u32,

    /// End when standard input ends, so that whoever started this is not outlived
    #[arg(long)]
    until_stdin_ends: bool,
}

/// The first and the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u16,
    last: u16,
}

/// A node that may use this one.
#[derive(Clone, Copy, Debug)]
struct HeadId(NodeId);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
        });
        span.filter(|span| span.first <= span.last)
            .ok_or("two numbers like 0-11, the smaller first")
    }
}

impl FromStr for HeadId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digest: Digest = text.parse().map_err(|_| "64 lower-case hex digits")?;
        Ok(Self(NodeId(digest.0)))
    }
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let secret = args.key.as_deref().map_or_else(nodes::secret, nodes::secret_in)?;
    let mut config = NodeConfig::new(secret, args.listen);
    config.heads = args.head.iter().map(|head| head.0).collect();
    config.store = Some(session.store()?.clone());
    config.upload_bytes_per_s = args.max_upload.map(|kib| u64::from(kib.get()) << 10);
    interrupt::watch();
    let node = Node::start(config)?;
    let package = match args.from.is_empty() {
        true => models::find(session, &args.name.model)?,
        false => {
            let span =
                args.layers.map(|span| nodes::range(span.first, span.last.saturating_add(1)));
            layers::fetch(session, &node, &args.name.model, span.transpose()?, &args.from)?
        }
    };
    let count = nodes::layer_count(&package)?;
    let span = args.layers.unwrap_or(Span { first: 0, last: count - 1 });
    if span.last >= count {
        let Span { first, last } = span;
        let message = format!("layers {first}-{last}, the package has 0-{}", count - 1);
        return Err(Failure::usage(message));
    }
    let layers = nodes::range(span.first, span.last + 1)?;
    let busy = progress::busy(&format!("loading {}", args.name.model), session.json);
    let options = ServeOptions {
        threads: session.threads,
        cache_tokens: args.cache_tokens,
        ..ServeOptions::default()
    };
    node.serve(&package, layers, options)?;
    busy.finish_and_clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_two_numbers_in_order() {
        assert_eq!("0-11".parse(), Ok(Span { first: 0, last: 11 }));
        assert_eq!("3-3".parse(), Ok(Span { first: 3, last: 3 }));
        for wrong in ["", "3", "3-", "-3", "4-3", "0-65536", "a-b", "0-1-2"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
