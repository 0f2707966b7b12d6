//! What a topic is set to do: how durable its appends are, and what it keeps.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an acknowledged append has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Durability {
    /// Written to the operating system: survives a crash of the process, not of the host.
    Buffered,
    /// Flushed to the disk: survives power loss of this peer, on disks that honour a flush.
    #[default]
    Fsync,
    /// Flushed by this many peers, this one included. 1 is [`Durability::Fsync`].
    Replicas(u8),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffered => f.write_str("buffered"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replicas(count) => write!(f, "replicas={count}"),
        }
    }
}

/// A word that is no durability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a durability is \"buffered\", \"fsync\" or \"replicas=N\" with N from 1 to 255, not \"{given}\"")]
pub struct DurabilityError {
    /// What was given.
    pub given: String,
}

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        let error = || DurabilityError { given: text.to_owned() };
        match text {
            "buffered" => Ok(Self::Buffered),
            "fsync" => Ok(Self::Fsync),
            _ => match text.strip_prefix("replicas=").map(str::parse) {
                Some(Ok(1)) => Ok(Self::Fsync),
                Some(Ok(count)) if count > 1 => Ok(Self::Replicas(count)),
                _ => Err(error()),
            },
        }
    }
}

/// What a log keeps; each bound is for each peer's log on its own. `None`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Retention {
    /// Entries older than this many milliseconds go.
    pub age_ms: Option<u64>,
    /// Oldest batches go while the log's stored bytes exceed this.
    pub bytes: Option<u64>,
    /// Only this many newest entries stay.
    pub count: Option<u64>,
}

impl Retention {
    /// Whether nothing is ever trimmed.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}

/// The settings of a topic. The default keeps everything, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TopicSettings {
    /// What an append that names no durability gets; also chooses the path of all bytes to the disk.
    pub durability: Durability,
    /// What is kept.
    pub retention: Retention,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities_read_back_what_they_print() {
        for level in [Durability::Buffered, Durability::Fsync, Durability::Replicas(3)] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("replicas=1".parse(), Ok(Durability::Fsync));
        for bad in ["", "sync", "replicas", "replicas=0", "replicas=256", "Fsync"] {
            assert!(bad.parse::<Durability>().is_err(), "{bad}");
        }
    }
}
