//! Folds over a topic's entries: what the catalog says, and which producers' numbers are known.
//!
//! A fold looks at entries one at a time and can be made again from them. It never knows about files, clients, or the
//! clock, and never decides anything: `node` does.

pub mod catalog;
pub mod producers;
