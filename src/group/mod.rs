//! Groups: shared iterators over a topic, whose state is a log.
//!
//! ```text
//!  requests of consumers ─┐                        ┌─> answers
//!  entries of the topic  ─┼─> Engine::handle ──────┼─> entries for $groups/<topic>
//!  entries of $groups/…  ─┘   (one for each topic) └─> what to read next, what to tell other peers
//! ```
//!
//! What every peer must agree on (which groups there are, where they begin, what is acknowledged) is the fold of
//! `$groups/<topic>`: `fold`. What only the peer needs that hands entries out (who has what until when, what waits) is in
//! memory: `dispense`. Nothing here reads a clock, a file or a log: the runtime brings what is asked for.

mod acks;
mod desk;
mod dispense;
mod engine;
mod far;
mod fold;
mod grants;
mod hand_out;
pub mod io;
mod leases;
#[cfg(test)]
mod model;
mod net;
mod progress;
mod reading;
mod ready;
mod restate;
mod set;
#[cfg(test)]
mod testing;
mod twins;
mod waiters;
pub mod write;

pub use engine::Engine;
pub use io::{GroupConfig, Input, Meta, Output, Reading, Ticket};
pub use write::{Acks, GroupWrite};
