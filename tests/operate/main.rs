//! Running a cluster as a person does it: peers as processes, commands of the real program, their words and exit codes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start programs, look at the clock and find free ports"
)]

mod health;
mod peers;
mod receipts;
mod removal;
mod stopping;
mod words;
