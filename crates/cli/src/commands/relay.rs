//! `shoal relay`: where nodes meet that nobody can reach directly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_node::{NodeId, Relay, RelayCounts, RelayOptions};

use crate::commands::serve::HeadId;
use crate::failure::Failure;
use crate::session::Session;
use crate::{interrupt, output};

const PORT: u16 = 11410;
/// How often it is seen whether there is something to say.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How often it says what it relayed, while it relays.
const SAY_AFTER: Duration = Duration::from_secs(60);
const KILOBYTE: u32 = 1000;

/// Arguments of `shoal relay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port to listen on, TCP and UDP, and UDP on the port after it; port 0 takes free
    /// ones
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT
    ))]
    listen: SocketAddr,

    /// Nodes that may be connected at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    clients: u32,

    /// Most that is taken from each node, in kilobytes (1000 bytes) per second
    #[arg(long, value_name = "KB_PER_S", default_value = "10000")]
    max_rate: NonZeroU32,

    /// Node that may use it, as often as wanted; every node unless given
    #[arg(long, value_name = "NODE")]
    allow: Vec<HeadId>,
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let rate = args.max_rate.get().saturating_mul(KILOBYTE);
    let relay = Relay::start(&RelayOptions {
        listen: args.listen,
        clients_max: args.clients as usize,
        client_bytes_per_s: NonZeroU32::new(rate).unwrap_or(args.max_rate),
        allow: args.allow.iter().map(|node| node.0).collect::<Vec<NodeId>>(),
    })?;
    interrupt::watch();
    let (asked, asks) = channel();
    let _guard = interrupt::on_ask(move || {
        // The command is gone already when nobody receives it.
        let _ = asked.send(());
    });
    let url = reachable(args.listen.ip()).map(|ip| relay.url(ip).to_string());
    let port = relay.address().port();
    match session.json {
        true => output::json(&json!({ "relay": url, "port": port }))?,
        false => {
            let unknown = || format!("http://ADDRESS:{port}");
            output::text(&screen(&url.unwrap_or_else(unknown), args))?;
        }
    }
    let (mut said, mut said_at) = (RelayCounts::default(), Instant::now());
    // The sender lives as long as the guard.
    while asks.recv_timeout(LOOK_AFTER) == Err(RecvTimeoutError::Timeout) {
        let counts = relay.counts();
        let is_news = counts.clients != said.clients || counts.refused != said.refused;
        let is_time = counts != said && said_at.elapsed() > SAY_AFTER;
        if is_news || is_time {
            (said, said_at) = (counts, Instant::now());
            say(session, counts)?;
        }
    }
    say(session, relay.counts())?;
    Ok(ExitCode::SUCCESS)
}

/// The address at which others may reach a relay: of all addresses of this machine the one that
/// packets leave from, if there is one. Nothing is sent.
fn reachable(listen: IpAddr) -> Option<IpAddr> {
    if !listen.is_unspecified() {
        return Some(listen);
    }
    // Any address beyond this machine; nobody has these.
    let (any, beyond) = match listen {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(beyond).ok()?;
    let address = socket.local_addr().ok()?;
    Some(address.ip())
}

fn screen(url: &str, args: &Args) -> String {
    let who = match args.allow.len() {
        0 => "whoever has the URL".to_owned(),
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    format!(
        "relay   {url}\n\
         for     {who}, {} at once, {} kB/s from each\n\
         sees    which nodes talk to each other, when and how much; not what they say\n\n\
         Others use it with --relay {url}\n\
         Behind a router, give its public address instead, and let TCP and UDP of this port and\n\
         UDP of the next one through.\n\n",
        args.clients, args.max_rate
    )
}

fn say(session: &Session, counts: RelayCounts) -> Result<(), Failure> {
    if session.json {
        return output::json(&value(counts));
    }
    let RelayCounts { clients, accepted, refused, bytes, packets, dropped, delayed_bytes } = counts;
    let (bytes, delayed) = (output::bytes(bytes), output::bytes(delayed_bytes));
    output::line(&format!(
        "{clients} nodes now, {accepted} so far, {refused} refused; relayed {bytes} in {packets} \
         packets, {dropped} for nobody, {delayed} held back"
    ))
}

fn value(counts: RelayCounts) -> Value {
    json!({
        "clients": counts.clients,
        "accepted": counts.accepted,
        "refused": counts.refused,
        "relayed_bytes": counts.bytes,
        "relayed_packets": counts.packets,
        "dropped_packets": counts.dropped,
        "delayed_bytes": counts.delayed_bytes,
    })
}
