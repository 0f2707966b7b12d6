//! Where things lie: names of files and places in them.
use crate::base::{LogId, TopicName};

/// Where a batch lies, or will lie once it is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the log's segment.
    pub segment: u32,
    /// The first byte in it.
    pub offset: u64,
}

/// Escaped names longer than this become a prefix and a digest.
const NAME_BYTES_MAX: usize = 100;

/// The directory of a topic: its name with every byte but `a-z A-Z 0-9 _ -` escaped as `=xx`; a name too long for
/// that is cut, and told from its like by a digest.
pub fn topic_dir(name: &TopicName) -> String {
    let mut escaped = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("={byte:02x}"));
        }
    }
    if escaped.len() > NAME_BYTES_MAX {
        let digest = blake3::hash(name.as_str().as_bytes());
        escaped.truncate(NAME_BYTES_MAX - 33);
        escaped.push_str("==");
        escaped.push_str(&digest.to_hex()[..31]);
    }
    format!("{TOPICS_DIR}/{escaped}")
}

/// The file of one segment of a log: the peer's first 16 digits, then the segment's number.
pub fn segment_path(dir: &str, log: &LogId, segment: u32) -> String {
    format!("{dir}/{}-{segment:08x}.segment", &log.peer.to_string()[..16])
}

/// The index beside a segment.
pub fn index_path(dir: &str, log: &LogId, segment: u32) -> String {
    format!("{dir}/{}-{segment:08x}.index", &log.peer.to_string()[..16])
}

/// Where a segment is kept of which nothing tells whose it is; `again` tells it from one that was kept before.
pub(super) fn damaged_segment_path(path: &str, again: String) -> String {
    format!("{}{again}.damaged", path.trim_end_matches(".segment"))
}

/// The directory of the topics' directories.
pub const TOPICS_DIR: &str = "topics";

/// The directory of the journal's files.
pub const JOURNAL_DIR: &str = "journal";

/// One of the journal's files.
pub fn journal_path(slot: u32) -> String {
    format!("{JOURNAL_DIR}/{slot:04}.journal")
}

/// Where a journal file with damage in it is kept, once nothing needs it.
pub fn damaged_journal_path(number: u32) -> String {
    format!("{JOURNAL_DIR}/{number:010}.damaged")
}

/// The checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// The checkpoint while it is written.
pub const CHECKPOINT_NEW: &str = "checkpoint.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_topic_name_leaves_its_directory_or_meets_another() {
        let dir = |name: &str| topic_dir(&TopicName::system(name).unwrap());
        assert_eq!(dir("jobs"), "topics/jobs");
        assert_eq!(dir("a/b.c"), "topics/a=2fb=2ec");
        assert_eq!(dir("$catalog"), "topics/=24catalog");
        assert_ne!(dir("a=2fb"), dir("a/b"));
        let long = |end: &str| dir(&format!("{}{end}", "ü".repeat(90)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= NAME_BYTES_MAX + "topics/".len());
    }
}
