//! Runs one simulated swarm and prints what it came to.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use shoal_sim::{Config, World, gossip_cost, plan_bench};

/// Simulates a swarm. One seed is one run.
#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Nodes that hold layers
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Nodes that ask
    #[arg(long, default_value_t = 16)]
    heads: usize,
    /// Share of the nodes that fail in an hour
    #[arg(long, default_value_t = 0.2)]
    churn: f64,
    /// Share of the nodes that misbehave
    #[arg(long, default_value_t = 0.02)]
    liars: f64,
    /// Simulated hours
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Requests per second
    #[arg(long, default_value_t = 0.5)]
    rate: f64,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give each stage a shadow
    #[arg(long)]
    shadows: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Time plans over so many members instead
    #[arg(long)]
    plan_bench: Option<usize>,
    /// Count what gossip costs among so many members that share a package instead
    #[arg(long)]
    gossip: Option<usize>,
}

#[expect(clippy::print_stdout, reason = "the terminal is its interface")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(nodes) = arguments.plan_bench {
        let mut times = plan_bench(nodes, 51);
        times.sort();
        let ms = |index: usize| times[index].as_secs_f64() * 1000.0;
        println!(
            "plan and spares over {nodes} members: median {:.2} ms, max {:.2} ms",
            ms(25),
            ms(50)
        );
        return ExitCode::SUCCESS;
    }
    if let Some(nodes) = arguments.gossip {
        println!("{}", gossip_cost(nodes, arguments.seed));
        return ExitCode::SUCCESS;
    }
    let report = World::new(Config {
        nodes: arguments.nodes,
        heads: arguments.heads,
        churn: arguments.churn,
        liars: arguments.liars,
        time: Duration::from_secs_f64(arguments.hours * 3600.0),
        rate: arguments.rate,
        seed: arguments.seed,
        shadows: arguments.shadows,
        ..Config::default()
    })
    .run();
    if arguments.json {
        let text = serde_json::to_string(&report).expect("a report is plain JSON");
        println!("{text}");
    } else {
        print!("{report}");
    }
    if report.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
