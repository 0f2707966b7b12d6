//! A peer put together from its configuration, and watched: settings, logs, metrics, health.
//!
//! This module never knows which command started it, and decides nothing about entries.
#![allow(clippy::disallowed_methods, reason = "the shell: it spawns, listens and reads files for the rest")]

pub mod config;
pub mod http;
pub mod logs;
pub mod metrics;
mod monitored;

mod door;
mod drain;
mod start;
mod unreplicated;
mod world;

pub use start::{Server, StartError, host_name};
pub use world::World;
