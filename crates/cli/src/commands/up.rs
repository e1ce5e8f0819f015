//! `shoal up`: models behind an HTTP endpoint.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use shoal_base::Generate;
use shoal_engine::LocalEngine;
use shoal_gateway::{ApiKeys, Gateway, GatewayOptions, Load, Models, Offer, OpenError, StartError};

use crate::failure::{Code, Failure};
use crate::models::{self, ModelArgs, ModelName};
use crate::session::Session;
use crate::{interrupt, output};

const PORT: u16 = 11400;

/// Arguments of `shoal up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model to serve, as often as wanted; the first one answers requests that name none
    #[arg(long, short, value_name = "MODEL", required = true)]
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

    /// How long open answers may go on after Ctrl-C before they are cut
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_s: u32,
}

/// The models of this process, loaded when it starts.
struct Loaded {
    engines: Vec<Arc<LocalEngine>>,
}

impl Models for Loaded {
    fn offers(&self) -> Vec<Offer> {
        self.engines.iter().map(|engine| offer(engine)).collect()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        match self.engines.iter().find(|engine| engine.card().name == name) {
            Some(engine) => Ok(Arc::clone(engine) as Arc<dyn Generate>),
            None => Err(OpenError::Unknown { name: name.to_owned() }),
        }
    }
}

fn offer(engine: &LocalEngine) -> Offer {
    let stats = engine.stats();
    let load = Load {
        running: stats.running,
        waiting: stats.waiting,
        kv_used: stats.kv_pages_held as f64 / stats.kv_pages.max(1) as f64,
        prefix_queries: stats.prompt_tokens,
        prefix_hits: stats.cached_tokens,
    };
    let card = engine.card().clone();
    Offer { name: card.name.clone(), card: Some(card), load: Some(load) }
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let keys = args.api_keys.as_ref().map(|path| {
        let keys = ApiKeys::open(path);
        keys.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    });
    let keys = keys.transpose()?;
    if keys.is_none() && !args.listen.ip().is_loopback() {
        let message = format!("{} can be reached by others; give --api-keys FILE", args.listen);
        return Err(Failure::usage(message));
    }
    let mut engines: Vec<Arc<LocalEngine>> = Vec::new();
    for model in &args.model {
        if engines.iter().any(|engine| engine.card().name == *model) {
            return Err(Failure::usage(format!("{model:?} is given twice")));
        }
        let name = ModelName { model: model.clone() };
        let model = ModelArgs { name, kv_cache_mib: args.kv_cache_mib };
        engines.push(Arc::new(models::load(session, &model, None)?));
    }
    let has_keys = keys.is_some();
    let names: Vec<String> = engines.iter().map(|engine| engine.card().name.clone()).collect();
    let chat = engines.first().is_some_and(|engine| engine.card().chat);
    let options = GatewayOptions { listen: args.listen, hosts: args.allow_host.clone(), keys };
    let loaded = Arc::new(Loaded { engines });
    interrupt::watch();
    let gateway = Gateway::start(loaded, options)?;
    let screen = Screen { address: gateway.address(), names, chat, has_keys };
    match session.json {
        true => output::json(&json!({
            "address": screen.address.to_string(),
            "models": screen.names,
        }))?,
        false => output::text(&screen.text())?,
    }
    let (asked, asks) = channel();
    let _guard = interrupt::on_ask(move || {
        // The command is gone already when nobody receives it.
        let _ = asked.send(());
    });
    // It only ends by Ctrl-C; the sender lives as long as the guard.
    let _ = asks.recv();
    let all_finished = gateway.stop(Duration::from_secs(args.drain_s.into()));
    if !all_finished {
        output::note("some answers were cut; their clients have been told");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is printed once it serves.
struct Screen {
    address: SocketAddr,
    names: Vec<String>,
    chat: bool,
    has_keys: bool,
}

impl Screen {
    fn text(&self) -> String {
        let Self { address, names, .. } = self;
        let key = if self.has_keys { " -H \"Authorization: Bearer $KEY\"" } else { "" };
        let first = names.first().map_or("", String::as_str);
        let (path, body) = match self.chat {
            true => {
                let messages = json!([{ "role": "user", "content": "Hello" }]);
                ("chat/completions", json!({ "model": first, "messages": messages }))
            }
            false => ("completions", json!({ "model": first, "prompt": "Once upon a time" })),
        };
        // Single quotes end at a single quote.
        let body = body.to_string().replace('\'', "'\\''");
        format!(
            "console  http://{address}/\nAPI      http://{address}/v1\nmodels   {}\n\n\
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
