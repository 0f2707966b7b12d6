//! What is told of a peer, its topics, groups and entries, as JSON: the same for the program and over HTTP.
mod cluster;
mod entry;
mod group;
mod status;
mod told;
mod topic;

pub use cluster::{MemberJson, SyncJson, SyncPeerJson};
pub use entry::{EntryJson, EntryJsonError, Line, Named, RecordJson, parse_line};
pub use group::{DeliveredJson, GroupJson, id_word, lease_word};
pub use status::{StatusJson, clock_words};
pub use told::{Told, blocked, gap};
pub use topic::{ForkJson, LogJson, RangeJson, TopicJson};
