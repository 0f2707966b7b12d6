//! The log on disk: what a step writes before anyone hears of it, and how it is found again.
//!
//! ```text
//!   step ──seal──> batches ──one write, one sync──> journal ──later──> segments ──> index
//!                     │                                │                  │
//!                     └── bulk: straight to the segment, synced first     └── checkpoint, then the journal
//!                                                                             file is used again
//!
//!   trimmed <= published <= durable <= written        (per log; each only ever grows)
//! ```
//!
//! It promises: what was synced is there after power loss; what was cut short is cut off; what rotted is found,
//! set aside and told, and its neighbours are served. Opening costs the checkpoint and the journal, never the
//! length of a log. Reading takes a lock only to look where bytes lie.
//!
//! It never knows about topics' settings, clients, peers elsewhere, or the clock. Given its `Disk` it is
//! deterministic.

mod bad_sectors;
pub mod checkpoint;
pub mod flush;
mod forks;
pub mod heads;
pub mod journal;
mod journal_files;
pub mod place;
pub mod positions;
mod prewrite;
pub mod read;
pub mod rebuild;
pub mod record;
pub mod recovery;
pub mod retention;
mod run_view;
pub mod runs;
pub mod scrub;
pub mod seal;
pub mod seek;
pub mod segment;
pub mod set_aside;
mod severed;
pub mod state;
pub mod store;
mod stretch;
pub mod tail;
#[cfg(test)]
pub(crate) mod testing;
pub mod topic_reader;
pub mod writer;

pub use place::Place;
pub use positions::Positions;
pub use record::Lsn;
pub use recovery::{Opened, open};
pub use scrub::Scrub;
pub use seal::{SealedStep, Sealer};
pub use store::{LogConfig, Store, StoreError};
pub use topic_reader::{ReadItem, TopicReader};
pub use writer::{StepDone, WriteError, Writer, is_no_space};
