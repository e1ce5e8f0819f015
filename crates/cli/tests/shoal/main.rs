//! The program as its users run it: words in, output and exit code out.

mod chat;
mod damage;
mod imports;
mod interrupts;
mod measures;
mod pulls;
mod real_models;
mod runs;
mod support;
mod train;
