//! The HTTP interface of a real peer, over sockets: what docs/http.md and docs/openapi.yaml say of it, and bad input of every kind.
#![allow(clippy::disallowed_methods, reason = "tests wait on the runtime's own timer and read files")]
#![allow(clippy::disallowed_types, reason = "tests speak HTTP through sockets of their own")]

mod appends;
mod client;
mod docs;
mod groups;
mod limits;
mod peer;
mod reads;
mod streams;
mod tls;
mod tokens;
mod topics;
