//! What lies between frames and UDP, for both ends of a connection: streams of frames, and the socket under QUIC.
//!
//! Nothing here knows what is asked or answered, or who asks.

pub mod socket;
pub mod stream;
pub mod unfinished;
