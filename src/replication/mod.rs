//! Replication: what others hold that we lack, of whom to ask it, and what to tell them.
//!
//! ```text
//! sessions ──> compare ──> offers: who says to hold what we lack ──> wants: ranges leased, with deadlines
//!                              ^                                          │
//!          Have ───────────────┘            batches, verified elsewhere <─┘ ──> the log ──> durable: held, Have to all
//! ```
//!
//! A pure function of messages, time and answers: no I/O, no clock, no randomness of its own. What others say is a hint
//! where to ask; a lie costs a question. A run is asked for in pieces, of all that offer it, each of one store at a time and
//! of another when that one fails.

mod ask;
pub mod bounds;
mod copies;
mod digest;
mod engine;
mod fetch;
mod follow;
pub mod forks;
pub mod held;
mod io;
mod offers;
mod progress;
pub mod ranges;
mod relay;
mod remembered;
mod removed;
mod room;
mod session;
mod stated;
mod tell;
mod waiting;

pub use engine::Replication;
pub use follow::PUSH_BYTES_MAX;
pub use io::{Age, Await, PeerInput, PeerOutput, ReplicationConfig};
pub use progress::{Progress, Source};
pub use remembered::Remembered;
pub use waiting::Fetched;
