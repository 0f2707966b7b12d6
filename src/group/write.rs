//! What stands in `$groups/<topic>`: one entry for each thing that a group did, as JSON.
//!
//! Groups are decided like the catalog: a write names those that it replaces, and time and peer only decide between writes that
//! did not know of each other. Acknowledgements name the epoch they belong to, and within it they unite.
use crate::base::{Cursor, GroupName, PeerId, RunId, Seq, Timestamp};
use crate::topic::catalog::{WriteId, hex_text};
use crate::wire::group::GroupSettings;
use serde::{Deserialize, Serialize};

/// The payload of an entry of kind [`crate::base::EntryKind::Group`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GroupWrite {
    /// A group begins. Those of one name that do not know of each other are one group, which hands out what any would.
    Create {
        /// Its name.
        group: GroupName,
        /// The position before the first entry it hands out.
        #[serde(with = "cursor_text")]
        start: Cursor,
        /// How it hands out.
        settings: GroupSettings,
        /// What is known of the name: a deletion, say.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replaces: Vec<WriteId>,
    },
    /// It hands out in another way.
    Set {
        /// Its name.
        group: GroupName,
        /// How, from now on.
        settings: GroupSettings,
        /// The settings that it replaces: those of `Create` and `Set` that were known.
        replaces: Vec<WriteId>,
    },
    /// It begins anew elsewhere.
    Rewind {
        /// Its name.
        group: GroupName,
        /// The position before the first entry it hands out.
        #[serde(with = "cursor_text")]
        start: Cursor,
        /// The epochs that it replaces: those that were known.
        replaces: Vec<WriteId>,
    },
    /// It is no more.
    Delete {
        /// Its name.
        group: GroupName,
        /// The epochs and settings that it replaces.
        replaces: Vec<WriteId>,
    },
    /// Entries are done.
    Ack {
        /// The group.
        group: GroupName,
        /// The epochs in which they are: one, or all that were made without knowing of each other.
        epochs: Vec<WriteId>,
        /// Which.
        acks: Vec<Acks>,
        /// Why.
        #[serde(default, skip_serializing_if = "Done::is_acked")]
        why: Done,
    },
    /// Entries were handed out, for whoever hands them out next.
    Grant {
        /// The group.
        group: GroupName,
        /// The epochs.
        epochs: Vec<WriteId>,
        /// Which; each once more than before.
        grants: Vec<Acks>,
        /// The longest of their leases, in milliseconds.
        lease_ms: u64,
        /// They were handed out before, and are kept longer: that does not count.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_extension: bool,
    },
    /// Whoever wrote this leases nothing any more: it stops.
    Rest {
        /// The group.
        group: GroupName,
        /// What is still leased; nothing else is.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        held: Vec<Acks>,
    },
    /// All that lies before this position is done.
    Progress {
        /// The group.
        group: GroupName,
        /// The epochs.
        epochs: Vec<WriteId>,
        /// The position.
        #[serde(with = "cursor_text")]
        done: Cursor,
    },
    /// What its writer wrote before and still counts, said again, so that the rest can be trimmed.
    Restate {
        /// Each with the entry that said it first, and the time of that.
        writes: Vec<(WriteId, Timestamp, GroupWrite)>,
    },
}

/// Entries of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acks {
    /// The log's peer.
    #[serde(with = "hex_text")]
    pub peer: PeerId,
    /// The run.
    #[serde(with = "hex_text")]
    pub run: RunId,
    /// Their numbers: half-open ranges, in order, not touching.
    pub ranges: Vec<(Seq, Seq)>,
}

/// Why an entry is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A consumer said so.
    #[default]
    Acked,
    /// It expired before.
    Expired,
    /// It was handed out too often, and dropped.
    Dropped,
    /// It was handed out too often, and is in the topic of dead letters.
    Buried,
    /// It was handed out too often, and is kept aside.
    Exhausted,
}

impl Done {
    fn is_acked(&self) -> bool {
        *self == Self::Acked
    }
}

impl GroupWrite {
    /// Reads a payload; one that makes no sense is left out.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, numbers and lists always have a JSON form")
    }

    /// The group it is about; `None` for what restates others.
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            Self::Create { group, .. }
            | Self::Set { group, .. }
            | Self::Rewind { group, .. }
            | Self::Delete { group, .. }
            | Self::Ack { group, .. }
            | Self::Grant { group, .. }
            | Self::Rest { group, .. }
            | Self::Progress { group, .. } => Some(group),
            Self::Restate { .. } => None,
        }
    }
}

/// Cursors as the word that people see.
mod cursor_text {
    use crate::base::Cursor;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(cursor: &Cursor, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(cursor)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
