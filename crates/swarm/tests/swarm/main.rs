//! Tests of what a driver sees. Rings as a whole are tested by the simulator.
#![forbid(unsafe_code)]

mod door;
mod fetch;
mod gossip;
mod join;
mod members;
mod planner;
mod stage;
mod standby;
mod support;
