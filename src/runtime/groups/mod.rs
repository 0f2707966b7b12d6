//! Groups on a running peer: one task for each topic whose groups somebody asks for.
//!
//! ```text
//! Handle::group ──mail──> task of the topic: Engine::handle ──> readers of the topic, which mail back what they read
//!                             ^        │
//!                             └────────┴──> appends to $groups/<topic>, and its tail
//! ```
//!
//! The engine decides, the task carries out. It begins with the first request for a topic's groups, or the first word of another
//! peer about them, and reads `$groups/<topic>` first. A topic whose groups nobody asks for costs nothing.

mod dead;
mod door;
mod places;
mod readings;
mod stored;
mod task;

pub(super) use door::Door;
pub use door::Leased;
