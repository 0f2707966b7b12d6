//! Deterministic simulation of Conveyor: the real code on simulated disks, clocks and networks, one seed a run.
//!
//! Whatever a run does follows from its seed, so a failure is a number. A seed that found a bug becomes a named
//! scenario. docs/testing.md tells how to run, replay and read one.
#![deny(unsafe_code)]

pub mod books;
pub mod cluster;
pub mod entropy;
pub mod random;
pub mod storage;
pub mod trace;
pub mod traffic;
pub mod whole;
