//! What client and peer say to each other: the values, and (in `message` and `frame`) their encoding.
//!
//! bincode stays inside this module, always with a byte limit. Nothing here knows about files or the log; `stream`
//! alone knows that frames travel over QUIC streams.

pub mod frame;
pub mod message;
pub mod outcome;
