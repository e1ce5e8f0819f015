//! Layers that travel between nodes on loopback.

mod fetch;
mod hostile;
mod support;
