//! Rings over real sockets on loopback: the same answers however the layers are cut, whatever runs
//! beside them, whoever dies, whoever lies.

mod hostile;
mod introductions;
mod members;
mod same_bytes;
mod support;
mod survive;
