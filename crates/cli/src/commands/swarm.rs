//! `shoal swarm`: making a swarm, inviting, joining, seeing and revoking members.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};
use shoal_node::{
    Joined, Pairing, PairingCode, PeerAddress, check_free, create_swarm, join_swarm, pair,
};

use crate::control::{self, Request};
use crate::failure::Failure;
use crate::public::Public;
use crate::relays::Relays;
use crate::session::Session;
use crate::{interrupt, models, output, progress, swarming};

/// How long a ticket can be used unless told otherwise.
const TICKET_FOR: Lives = Lives(86_400);
/// The same of a code.
const CODE_FOR: Lives = Lives(600);
/// Longest life of a code.
const CODE_FOR_MAX: Lives = Lives(3600);

/// Commands about swarms.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a swarm whose owner is this data folder
    Create(CreateArgs),
    /// Print a ticket or a code with which one machine may join
    Invite(InviteArgs),
    /// Join a swarm with a ticket or a code
    Join(JoinArgs),
    /// List the members that are known
    Members,
    /// Shut a node out of the swarm
    Revoke(RevokeArgs),
}

/// Arguments of `shoal swarm create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What you call it; nobody else is told
    #[arg(default_value = "")]
    name: String,
}

/// Arguments of `shoal swarm invite`.
#[derive(Debug, clap::Args)]
pub(crate) struct InviteArgs {
    /// What the machine may do; each role may do what those before it may
    #[arg(long, default_value = "serve", value_parser = ["use", "serve", "invite"])]
    role: String,

    /// Model it is for, as often as wanted; all models unless given
    #[arg(long, short, value_name = "MODEL")]
    model: Vec<String>,

    /// How long it can be used: 90s, 30m, 12h, 7d; a ticket one day and a code ten minutes unless
    /// given
    #[arg(long, value_name = "TIME")]
    expires: Option<Lives>,

    /// Show six digits to type on the other machine instead, and wait for it
    #[arg(long)]
    code: bool,

    /// Address to wait on for the code
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:0", requires = "code")]
    listen: SocketAddr,

    #[command(flatten)]
    public: Public,
}

/// Arguments of `shoal swarm join`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// What `shoal swarm invite` printed: a ticket, or six digits
    #[arg(value_name = "TICKET|CODE")]
    ticket: String,

    /// Where the invitation waits, for networks without multicast; with --public the node is enough
    #[arg(long, value_name = "NODE[@ADDRESS]")]
    at: Option<PeerAddress>,

    /// What you call the swarm; nobody else is told
    #[arg(long, default_value = "")]
    name: String,

    /// Address to ask from; any of this machine unless given
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:0")]
    from: SocketAddr,

    #[command(flatten)]
    relays: Relays,
    #[command(flatten)]
    public: Public,
}

/// Arguments of `shoal swarm revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The node, as `shoal swarm members` prints it
    node: String,
}

/// A span of time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lives(u64);

impl FromStr for Lives {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "a number and s, m, h or d, like 12h";
        let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
        let unit = |(unit, seconds)| text.strip_suffix(unit).map(|count| (count, seconds));
        let (count, seconds) = units.into_iter().find_map(unit).ok_or(rule)?;
        let count: u64 = count.parse().map_err(|_| rule)?;
        count.checked_mul(seconds).filter(|total| *total > 0).map(Self).ok_or(rule)
    }
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create(session, args),
        Command::Invite(args) => invite(session, args),
        Command::Join(args) => join(session, args),
        Command::Members => members(session),
        Command::Revoke(args) => revoke(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let made = create_swarm(&swarming::folder(session)?, &args.name)?;
    say(session, &made, "`shoal up` or `shoal serve` runs its node, `shoal swarm invite` invites.")
}

fn join(session: &Session, args: &JoinArgs) -> Result<(), Failure> {
    let folder = swarming::folder(session)?;
    let ticket = match (args.ticket.parse::<PairingCode>(), &args.at) {
        (Ok(code), at) => {
            // A ticket is for one use: not for a folder that cannot use it.
            check_free(&folder)?;
            let busy = progress::busy("looking for the invitation", session.json);
            let ticket = pair(code, at.clone(), args.from, args.public.looked_up(session))?;
            busy.finish_and_clear();
            ticket
        }
        (Err(_), None) => args.ticket.clone(),
        (Err(_), Some(_)) => {
            return Err(Failure::usage("--at goes with a code; a ticket says where to ask"));
        }
    };
    let busy = progress::busy("joining", session.json);
    let relays = args.relays.all(session);
    let discovery = args.public.looked_up(session);
    let joined = join_swarm(&folder, &ticket, &args.name, args.from, &relays, discovery)?;
    busy.finish_and_clear();
    say(session, &joined, "`shoal up` asks it, `shoal serve` computes for it.")
}

fn say(session: &Session, joined: &Joined, next: &str) -> Result<(), Failure> {
    let (swarm, node) = (joined.swarm.to_string(), joined.node.to_string());
    let role = swarming::role(joined.role);
    let left_s = swarming::seconds_left(joined.expires_at_s);
    if session.json {
        return output::json(&json!({
            "swarm": swarm, "node": node, "role": role, "certificate_s_left": left_s,
        }));
    }
    output::text(&format!("swarm  {swarm}\nnode   {node}\nrole   {role}\n\n{next}\n"))
}

fn invite(session: &Session, args: &InviteArgs) -> Result<(), Failure> {
    let packages = args
        .model
        .iter()
        .map(|model| models::find(session, model).map(|package| package.id().to_string()));
    let packages = packages.collect::<Result<_, _>>()?;
    let usual = if args.code { CODE_FOR } else { TICKET_FOR };
    let (role, seconds) = (args.role.clone(), args.expires.unwrap_or(usual).0);
    if args.code && seconds > CODE_FOR_MAX.0 {
        return Err(Failure::usage("a code lasts at most one hour; for longer, invite by ticket"));
    }
    let said = control::ask(&session.home, &Request::Invite { role, packages, seconds })?;
    if said["is_here_only"] == true {
        output::note(
            "this node listens on this machine alone, so nobody else can use what is printed; \
             start it with `--swarm-listen 0.0.0.0:PORT` (up) or `--listen` (serve) to be reached",
        );
    }
    if !args.code && args.public.is_given() {
        let message = "--public is for --code; a ticket leads to where its node is published";
        return Err(Failure::usage(message));
    }
    if args.code {
        let ticket = said["ticket"].as_str().unwrap_or_default();
        return invite_by_code(session, args, ticket, Duration::from_secs(seconds));
    }
    if session.json {
        return output::json(&said);
    }
    output::line(said["ticket"].as_str().unwrap_or_default())
}

/// Shows a code and waits for the machine on which it is typed.
fn invite_by_code(
    session: &Session,
    args: &InviteArgs,
    ticket: &str,
    time: Duration,
) -> Result<(), Failure> {
    interrupt::watch();
    let pairing = Pairing::open(args.listen, args.public.published(session))?;
    let (code, at) = (pairing.code().to_string(), pairing.address().to_string());
    let unheard = pairing.unheard().map(ToString::to_string);
    if session.json {
        output::json(&json!({
            "event": "waiting", "code": code, "at": at, "seconds": time.as_secs(),
            "multicast_error": unheard,
        }))?;
    } else {
        output::line(&format!("code  {code}\n"))?;
        output::line(&format!("On the other machine:  shoal swarm join {code}"))?;
        let far = format!("without multicast:     shoal swarm join {code} --at {at}");
        output::line(&far)?;
        if args.public.is_given() {
            let node = at.split('@').next().unwrap_or_default();
            output::line(&format!(
                "from anywhere:         shoal swarm join {code} --at {node} --public"
            ))?;
        }
        if let Some(why) = unheard {
            output::line(&format!("nobody hears of it by itself: {why}"))?;
        }
    }
    let busy = progress::busy("waiting for the other machine", session.json);
    let outcome = pairing.wait(ticket, time, &|| !interrupt::is_asked());
    busy.finish_and_clear();
    outcome?;
    match session.json {
        true => output::json(&json!({ "event": "given" })),
        false => output::line("the code was right: the other machine has its ticket"),
    }
}

fn revoke(session: &Session, args: &RevokeArgs) -> Result<(), Failure> {
    let node = swarming::node_of(&args.node)?.to_string();
    let said = control::ask(&session.home, &Request::Revoke { node })?;
    match session.json {
        true => output::json(&said),
        false => output::line("revoked; members that are connected close their doors at once"),
    }
}

fn members(session: &Session) -> Result<(), Failure> {
    let said = control::ask(&session.home, &Request::Swarm {})?;
    if session.json {
        return output::json(&said);
    }
    let name = said["name"].as_str().unwrap_or_default();
    output::line(&format!("swarm {} {name}", said["swarm"].as_str().unwrap_or_default()))?;
    let members = said["members"].as_array().into_iter().flatten();
    members.map(line).try_for_each(|line| output::line(&line))
}

/// A member on one line.
pub(crate) fn line(member: &Value) -> String {
    let word = |key: &str| member[key].as_str().unwrap_or("-");
    let reach = match (member["is_this"].as_bool(), member["is_connected"].as_bool()) {
        (Some(true), _) => "this node",
        (_, Some(true)) => member["way"].as_str().unwrap_or("connected"),
        _ => "not connected",
    };
    let trip = member["round_trip_ms"].as_f64();
    let trip = trip.map_or(String::new(), |ms| format!("  {ms:.2} ms"));
    let offers: String = member["offers"].as_array().into_iter().flatten().map(offer).collect();
    let (node, role, state) = (word("node"), word("role"), word("state"));
    format!("{node}  {role:<6}  {state:<8}  {reach}{trip}{offers}")
}

fn offer(offer: &Value) -> String {
    let package: String = offer["package"].as_str().unwrap_or_default().chars().take(12).collect();
    let layers = offer["layers"].as_array().into_iter().flatten();
    let layers: Vec<String> = layers.map(|span| format!("{}-{}", span[0], span[1])).collect();
    format!("\n    {package} layers {}", layers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        assert_eq!("90s".parse(), Ok(Lives(90)));
        assert_eq!("7d".parse(), Ok(Lives(604_800)));
        for wrong in ["", "7", "d", "0h", "-1h", "1w", "1.5h", "99999999999999999999d", "1é"] {
            assert!(wrong.parse::<Lives>().is_err(), "{wrong}");
        }
    }
}
