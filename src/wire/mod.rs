//! What client and peer, and peers among themselves, say to each other: the values, their encoding, and what both sides do with batches.
//!
//! bincode stays inside `message`, always with a byte limit. Nothing here knows about files, sockets, tasks or the log.

pub mod contents;
pub mod data;
pub mod facts;
pub mod frame;
pub mod greeting;
pub mod group;
// What a peer and its command line show and take as text: none of the client's.
#[cfg(feature = "server")]
pub mod json;
pub mod merge;
pub mod message;
pub mod outcome;
pub mod peer;
pub mod peer_frame;
pub mod verify;
#[cfg(feature = "server")]
pub mod when;
