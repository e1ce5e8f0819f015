//! The program as its users run it: words in, output and exit code out.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod chat;
mod damage;
mod imports;
mod interrupts;
mod layers;
mod limits;
mod measures;
mod members;
#[cfg(target_os = "linux")]
mod netlab;
#[cfg(target_os = "linux")]
mod netlab_failover;
#[cfg(target_os = "linux")]
mod netlab_joining;
#[cfg(target_os = "linux")]
mod netlab_public;
#[cfg(target_os = "linux")]
mod netlab_relay;
mod pulls;
mod real_models;
mod relay;
mod running;
mod runs;
mod service;
mod support;
mod swarm;
mod train;
mod up;
