//! Conveyor: a replicated log without a leader.
//!
//! Modules stand in reading order, lower layers first; docs/architecture.md has the map.
#![forbid(unsafe_code)]

pub mod base;
#[cfg(feature = "server")]
pub mod disk;
pub mod identity;
pub mod wire;

#[cfg(feature = "client")]
pub mod quic;
#[cfg(feature = "server")]
pub mod replication;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "server")]
pub mod log;

#[cfg(feature = "server")]
pub mod topic;

#[cfg(feature = "server")]
pub mod group;

#[cfg(feature = "server")]
pub mod node;

#[cfg(feature = "server")]
pub mod runtime;

#[cfg(feature = "server")]
pub mod net;

#[cfg(feature = "server")]
pub mod api;

#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "cli")]
pub mod cli;
