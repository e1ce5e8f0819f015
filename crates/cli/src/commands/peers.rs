//! `shoal peers`, `shoal plan` and `shoal leave`: what the running node sees, plans, and its end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::commands::swarm;
use crate::control::{self, Request};
use crate::failure::{Code, Failure};
use crate::models::{self, ModelName};
use crate::session::Session;
use crate::{output, swarming};

/// How long a node may take to end after it has drained.
const END_FOR: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `shoal plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    name: ModelName,
}

/// Arguments of `shoal leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaveArgs {
    /// Forget the swarm too; to come back takes a new ticket, and a swarm made here is gone
    #[arg(long)]
    forget: bool,
}

/// Runs `shoal peers`.
pub(crate) fn peers(session: &Session) -> Result<ExitCode, Failure> {
    let said = control::ask(&session.home, &Request::Swarm {})?;
    let all = said["members"].as_array().into_iter().flatten();
    let peers: Vec<&Value> = all.filter(|member| member["is_connected"] == true).collect();
    if session.json {
        output::json(&json!({ "node": said["node"], "peers": peers }))?;
        return Ok(ExitCode::SUCCESS);
    }
    peers.into_iter().try_for_each(|peer| output::line(&swarm::line(peer)))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `shoal plan`.
pub(crate) fn plan(session: &Session, args: &PlanArgs) -> Result<ExitCode, Failure> {
    let package = models::find(session, &args.name.model)?.id().to_string();
    let said = control::ask(&session.home, &Request::Plan { package })?;
    if session.json {
        output::json(&said)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = said["why"].as_str() {
        return Err(Failure::new(Code::NotFound, why));
    }
    let plans = said["plans"].as_array().into_iter().flatten();
    plans.map(text).try_for_each(|text| output::text(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// A plan: the speed, and what it follows from.
fn text(plan: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let way = |value: &Value| value.as_str().map_or(String::new(), |way| format!(" {way}"));
    let mut text = format!(
        "{:.1} tokens/s: once around the ring takes {:.2} ms, the slowest stage {:.2} ms\n",
        number(&plan["tokens_per_s"]),
        number(&plan["ring_ms"]),
        number(&plan["slowest_stage_ms"]),
    );
    for stage in plan["stages"].as_array().into_iter().flatten() {
        let (node, layers) = (stage["node"].as_str().unwrap_or_default(), &stage["layers"]);
        text += &format!(
            "  link {:.2} ms{}, layers {}-{} in {:.2} ms on {node}\n",
            number(&stage["link_ms"]),
            way(&stage["way"]),
            layers[0],
            layers[1],
            number(&stage["compute_ms"]),
        );
    }
    let (back, way) = (number(&plan["return_ms"]), way(&plan["return_way"]));
    text += &format!("  link {back:.2} ms back{way}\n");
    text
}

/// Runs `shoal leave`.
pub(crate) fn leave(session: &Session, args: &LeaveArgs) -> Result<ExitCode, Failure> {
    let was_running = match control::ask(&session.home, &Request::Leave {}) {
        Ok(_) => true,
        Err(failure) if failure.code == Code::NotFound && args.forget => false,
        Err(failure) => return Err(failure),
    };
    let started = Instant::now();
    while was_running && control::is_running(&session.home) {
        if started.elapsed() > swarming::DRAIN + END_FOR {
            return Err(Failure::new(Code::Failed, "the node was told to leave and did not end"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    if args.forget {
        if !swarming::is_member(session) {
            return Err(Failure::new(Code::NotFound, "this data folder is in no swarm"));
        }
        wait_for_folder(session)?.forget()?;
    }
    match session.json {
        true => output::json(&json!({ "left": was_running, "forgot": args.forget }))?,
        false if args.forget => output::line("the swarm is forgotten")?,
        false => output::line("the node has left and ended; it stays a member")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder, as soon as the node that ended has given it back.
fn wait_for_folder(session: &Session) -> Result<shoal_store::NodeFolder, Failure> {
    let started = Instant::now();
    loop {
        match swarming::folder(session) {
            Err(failure) if started.elapsed() > END_FOR => return Err(failure),
            Err(_) => std::thread::sleep(LOOK_EVERY),
            Ok(folder) => return Ok(folder),
        }
    }
}
