//! Every bound of the system in one place, beside the bounds it depends on, tied together at compile time.
//!
//! A bound that a person may want to change is a setting whose default stands here; the others are part of the
//! format or the protocol.

/// Longest payload of one entry, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Longest key of an entry, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most tags an entry may carry.
pub const TAG_COUNT_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;
/// Most headers an entry may carry.
pub const HEADER_COUNT_MAX: usize = 64;
/// Longest name of a header, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 256;
/// Longest value of a header, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 4096;
/// All of an entry but its payload, in bytes.
pub const ENTRY_META_BYTES_MAX: usize = 64 << 10;
/// Longest unique id, in bytes.
pub const UNIQUE_BYTES_MAX: usize = 256;
/// Longest raw entry: payload, the rest, and its own length.
pub const ENTRY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + ENTRY_META_BYTES_MAX;
/// Highest priority; 0 is the lowest and [`PRIORITY_DEFAULT`] what an entry without one has.
pub const PRIORITY_MAX: u8 = 9;
/// The priority of an entry that names none.
pub const PRIORITY_DEFAULT: u8 = 4;
/// How far ahead `deliver_at` may lie, in milliseconds: ten years.
pub const DELIVER_AHEAD_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;

/// Longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 200;
/// Longest name of a group, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 64;
/// Longest name of a peer, in bytes.
pub const PEER_NAME_BYTES_MAX: usize = 32;
/// Forks of one log that are kept: a machine is not resumed from a snapshot more often. A peer that signs more cheats, and
/// of what it signs then under one name the first that comes is kept.
pub const FORKS_MAX: usize = 16;

/// Raw bytes of a compressed chunk at most.
pub const COMPRESSED_CHUNK_RAW_BYTES_MAX: usize = 128 << 10;
/// Raw bytes a chunk of several entries may have; a larger entry is a chunk of its own.
pub const CHUNK_RAW_BYTES_MAX: usize = 1 << 20;
/// Entries in one chunk at most.
pub const CHUNK_ENTRY_COUNT_MAX: usize = 16_384;
/// Raw bytes a batch aims at; it is exceeded only by a single large entry.
pub const BATCH_RAW_BYTES_TARGET: usize = 1 << 20;
/// Chunks in one batch at most (a 16-bit count in the envelope).
pub const BATCH_CHUNK_COUNT_MAX: usize = 8_192;
/// Entries in one batch at most; the counter of the times it spans stays within one second.
pub const BATCH_ENTRY_COUNT_MAX: usize = 65_536;
/// Bytes of a stored batch at most: header, chunk headers and one entry of the largest size, or a full batch.
pub const BATCH_BYTES_MAX: usize = crate::base::batch::HEADER_BYTES + ENTRY_BYTES_MAX + (1 << 20);

/// A frame of the client protocol at most, beside the bytes that follow it in slices.
pub const FRAME_BYTES_MAX: usize = 2 << 20;
/// A control message, encoded, at most.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// A message between peers, encoded, at most: the summary of one log, with what its peer signed of some 10 000 runs.
pub const PEER_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// A message of the gossip at most: what chitchat makes has less than 64 KiB.
pub const GOSSIP_BYTES_MAX: usize = 96 << 10;
/// A peer's certificate with what stands behind it, in bytes of DER.
pub const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// Objects of which a part has come, over all clients of a peer, in bytes: a few of the largest kind.
pub const UNFINISHED_BYTES_MAX: usize = 72 << 20;
/// Up to this size an object is small, and has a share of that room which no larger one can take.
pub const UNFINISHED_SMALL_BYTES_MAX: usize = 1 << 20;
/// That share, as a part of the whole.
pub const UNFINISHED_SMALL_PART: usize = 8;
/// Streams that wait for such room at most; each holds what it had read by then.
pub const UNFINISHED_WAITING_COUNT_MAX: usize = 1024;
/// The slowest pace at which a frame, or the frames of one object, may come.
pub const UNFINISHED_BYTES_PER_S_MIN: u64 = 32 << 10;
/// Seconds that an object may take beside that.
pub const UNFINISHED_GRACE_S: u64 = 10;

/// Bytes of a frame's own header.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Logs that a cursor may name.
pub const CURSOR_POSITION_COUNT_MAX: usize = 4096;
/// Producers that a peer remembers for each topic.
pub const PRODUCER_COUNT_MAX: usize = 10_000;
/// Numbers that a peer remembers of each producer.
pub const PRODUCER_WINDOW: u64 = 1024;
/// Chunks of producers that are remembered, all topics together, at some 12 bytes each.
pub const PRODUCER_CHUNKS_MAX: usize = 500_000;

/// Bulk of one log in one step from which on it goes straight to its segment, in bytes.
pub const BULK_BYTES_MIN: usize = 256 << 10;
/// A segment rolls when its next batch would start beyond this, in bytes.
pub const SEGMENT_BYTES: u64 = 128 << 20;
/// One journal file, in bytes; it is preallocated, prewritten and recycled.
pub const JOURNAL_FILE_BYTES: u64 = 32 << 20;
/// Distance of two marks of the sparse index, in bytes of the segment.
pub const INDEX_STRIDE_BYTES: u64 = 64 << 10;
/// Batches that are in the journal and not yet in their segment, in bytes, over all logs.
pub const UNFLUSHED_BYTES_MAX: usize = 32 << 20;
/// Free space below which appends stop, in bytes (a setting; acks, trims and heads may use it).
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 << 20;

/// How far clocks may differ before irreversible decisions pause, in milliseconds (a setting).
pub const SKEW_MS_MAX_DEFAULT: u64 = 60_000;
/// Steady running after which a step forward found at start is believed, in milliseconds (a setting).
pub const CLOCK_SETTLE_MS_DEFAULT: u64 = 3_600_000;

/// How long an append waits for copies at other peers once it is durable here, in milliseconds (a setting).
pub const REPLICAS_TIMEOUT_MS_DEFAULT: u64 = 5_000;

// A batch of more than one entry always fits in one frame; only a single large entry travels in slices.
const _: () = assert!(
    BATCH_RAW_BYTES_TARGET
        + BATCH_CHUNK_COUNT_MAX * crate::base::chunk::HEADER_BYTES
        + crate::base::batch::HEADER_BYTES
        + FRAME_HEADER_BYTES
        <= FRAME_BYTES_MAX
);
// Several objects of the largest kind can be unfinished at once, and several small ones beside them.
const _: () =
    assert!(UNFINISHED_BYTES_MAX - UNFINISHED_BYTES_MAX / UNFINISHED_SMALL_PART >= 3 * BATCH_BYTES_MAX);
const _: () = assert!(UNFINISHED_BYTES_MAX / UNFINISHED_SMALL_PART >= 8 * UNFINISHED_SMALL_BYTES_MAX);
// The envelope counts chunks in 16 bits.
const _: () = assert!(BATCH_CHUNK_COUNT_MAX <= u16::MAX as usize);
// A chunk of several entries never exceeds the batch it must fit in.
const _: () = assert!(CHUNK_RAW_BYTES_MAX <= BATCH_RAW_BYTES_TARGET);
const _: () = assert!(CHUNK_ENTRY_COUNT_MAX <= BATCH_ENTRY_COUNT_MAX);
const _: () = assert!(COMPRESSED_CHUNK_RAW_BYTES_MAX <= CHUNK_RAW_BYTES_MAX);
// Lengths inside an entry fit the four bytes of its length field.
const _: () = assert!(ENTRY_BYTES_MAX < 1 << 28);
// A journal file holds the largest record that is not bulk many times over.
const _: () = assert!(JOURNAL_FILE_BYTES > 8 * (BATCH_RAW_BYTES_TARGET as u64));
