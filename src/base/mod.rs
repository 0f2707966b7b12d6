//! The words of Conveyor as types: names, numbers, times, entries, batches, cursors and their limits.
//!
//! Everything here is plain data with a fixed byte layout (docs/format.md has every byte). Nothing here
//! knows about files, sockets, clocks, keys or tasks. What comes from outside is checked once, at the edge,
//! by a constructor that returns a typed error; what is passed inward cannot be built another way.

mod as_bytes;
pub mod batch;
pub mod bytes_io;
pub mod chunk;
pub mod cursor;
pub mod entry;
pub mod fork;
pub mod group_name;
pub mod hex;
pub mod ids;
pub mod limits;
pub mod merkle;
pub mod name;
pub mod percent;
pub mod planted;
pub mod removal;
pub mod settings;
pub mod statement;
pub mod step;
pub mod time;
pub mod units;

pub use batch::{Batch, BatchError};
pub use chunk::{Chunk, ChunkBuilder, ChunkError, Codec};
pub use cursor::{Cursor, CursorError, Position};
pub use entry::{Entry, EntryError, EntryKind, EntryView};
pub use fork::Fork;
pub use group_name::GroupName;
pub use ids::{
    ClusterId, Digest, EntryId, LogId, PeerId, ProducerId, RunId, Seq, StoreId, StoreNonce, TopicId,
};
pub use name::{EntryRef, NameError, PeerName, PeerRef, TopicName};
pub use removal::{Remains, Removal, Removed, RunEnds, SignedRemoval};
pub use settings::{Durability, DurabilityError, Retention, TopicSettings};
pub use statement::{Head, Lost, Signature, Signed, Statement};
pub use step::{AppendWork, Step, Work};
pub use time::{Now, Timestamp};
