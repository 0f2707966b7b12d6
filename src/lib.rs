//! Conveyor: a replicated log without a leader.
//!
//! Modules stand in reading order, lower layers first; docs/architecture.md has the map.
pub mod disk;
