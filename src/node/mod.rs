//! The engine: decides what is numbered, what each answer waits for, what is removed and when. It does no I/O.
//!
//! ```text
//! inputs ──handle──> state changes, answers named by the step they wait for ──┐
//!                                                                             ├──> the runtime
//! CloseStep ───────> a numbered step: batches to seal and write ──────────────┘
//! Durable { step } ─> what was decided in it is now believed
//! ```
//!
//! Time, randomness and every input are handed in; nothing here reads a clock, opens a file, spawns or dials. Payloads
//! pass by as references. The same inputs give the same outputs, which is what the simulator stands on.

mod append;
pub mod clock;
pub mod config;
mod copies;
mod elsewhere;
mod engine;
mod forks;
pub mod gather;
mod io;
pub mod memory;
pub mod own_log;
mod peers;
mod probe;
mod removals;
mod topics;
mod upkeep;

#[cfg(test)]
mod tests;

pub use config::NodeConfig;
pub use engine::Node;
pub use forks::Behind;
pub use io::{Answer, HeldStatement, Input, Looked, Output, Release, Ticket};
pub use topics::{HeldLog, HeldTopic};
