//! What a peer offers to clients: one adapter for each protocol, over the runtime's handle.
//!
//! An adapter checks rights, turns bytes into values and values into bytes, and waits. It decides nothing about entries
//! and never knows about files.

pub mod http;
pub mod rpc;

mod allowed;
mod cluster;
