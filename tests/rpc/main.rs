//! A peer and its clients over real sockets on loopback: appends, reads, lost connections, and bad input of every kind.
#![allow(clippy::disallowed_methods, reason = "tests wait on the runtime's own timer and start tasks")]
#![allow(clippy::disallowed_types, reason = "tests send rubbish through sockets of their own")]

mod appends;
mod bad_input;
mod groups;
mod handshakes;
mod imports;
mod peer;
mod reads;
mod streams;
