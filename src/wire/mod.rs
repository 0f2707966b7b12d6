//! What client and peer say to each other: the values, and (in `message` and `frame`) their encoding.
//!
//! bincode stays inside this module, always with a byte limit. Nothing here knows about sockets, files or the log.

pub mod outcome;
