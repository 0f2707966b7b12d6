//! The runtime: steps the engine, runs the disk, and lets answers leave when what they speak of is durable.
//!
//! ```text
//! Handle ──requests──> core ──Input──> node ──Output──> core ──Step──> sync lane: seal · write · sync · publish
//!    ^                  │  <──────────── Written, Durable ───────────────┘
//!    └──── answers ─────┘         one step in flight while the next gathers
//! ```
//!
//! It waits and schedules, and decides nothing about entries. It never knows about sockets or protocols. What differs
//! between production and simulation comes in as an [`Env`].

pub mod answers;
mod config;
mod core;
pub mod env;
mod forks;
mod groups;
mod handle;
mod import;
mod lanes;
mod large;
mod lookup;
mod peers;
mod progress;
mod reader;
mod removals;
mod scrub;
mod shared;
mod signed;
mod start;
mod step_times;
mod watched;
mod watches;

pub use crate::replication::Progress;
pub use crate::wire::outcome::RemoveError;
pub use config::RuntimeConfig;
pub use env::{
    Alone, Entropy, Env, PeerNet, Place, Spawn, SystemClock, SystemEntropy, TokioSpawn, WallClock,
};
pub use groups::Leased;
pub use handle::{AppendTicket, Found, Handle, Readiness};
pub use import::ImportTicket;
pub use progress::Missing;
pub use reader::{ReadItem, TopicReader};
pub use scrub::ScrubConfig;
pub use start::{StartError, start};
pub use step_times::{BOUNDS_MICROS, StepTimes, Times};
pub use watched::Watched;
