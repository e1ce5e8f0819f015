//! Layers that travel between nodes on loopback.

mod certificates;
mod fetch;
mod hostile;
mod support;
