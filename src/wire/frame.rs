//! Frames: how messages and data are told apart on a QUIC stream.
//!
//! ```text
//! payload bytes u32 | kind u8 | flags u8 | 0 0 | payload
//! ```
//!
//! An object is one frame, or, when it is larger than a frame may be, several of one kind of which all but the last
//! carry [`MORE`]. Only a single large entry ever needs that. Each kind has a limit of its own, checked against the
//! header before room is made; room grows with the bytes that arrive, so a header that lies costs its sender as much
//! as it costs us. Nothing here knows about streams: bytes are handed in, frames are handed out.
use crate::base::chunk::HEADER_BYTES as CHUNK_HEADER_BYTES;
use crate::base::limits::*;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The flag of a frame whose object goes on in the next frame.
pub const MORE: u8 = 1;

/// Bytes of payload in one frame at most.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

/// Bytes in front of a batch: the first seq that is wanted, and what it releases.
pub const BATCH_PREFIX_BYTES: usize = 16;

/// Bytes in front of a raw entry: peer, run, seq, time.
pub const ENTRY_PREFIX_BYTES: usize = 64;

/// Bytes in front of a batch that is pushed: its number.
pub const PUSH_PREFIX_BYTES: usize = 8;

/// Room made for a frame before its first byte arrives.
const FIRST_ROOM_BYTES: usize = 16 << 10;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// What a client asks, in bincode.
    Request = 1,
    /// What a peer answers, in bincode.
    Reply = 2,
    /// A chunk to append, as docs/format.md has it.
    Chunk = 3,
    /// A batch as stored, behind the first seq that is wanted and the time it releases.
    Batch = 4,
    /// A raw entry, behind its peer, run, seq and time.
    Entry = 5,
    /// A peer's certificate (DER); it comes before the peer's first batch.
    Certificate = 6,
    /// What a peer tells another, in bincode.
    Peer = 7,
    /// A batch as stored, for a peer that asked for it.
    Stored = 8,
    /// The same for a peer that did not, behind the number of the push.
    Push = 9,
    /// A message of the gossip.
    Gossip = 10,
    /// The removal of a peer, its signature, and the certificate of who signed it.
    Removal = 11,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Request,
        Self::Reply,
        Self::Chunk,
        Self::Batch,
        Self::Entry,
        Self::Certificate,
        Self::Peer,
        Self::Stored,
        Self::Push,
        Self::Gossip,
        Self::Removal,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Bytes that an object of this kind may have.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Request | Self::Reply => MESSAGE_BYTES_MAX,
            Self::Chunk => CHUNK_HEADER_BYTES + ENTRY_BYTES_MAX,
            Self::Batch => BATCH_PREFIX_BYTES + BATCH_BYTES_MAX,
            Self::Entry => ENTRY_PREFIX_BYTES + ENTRY_BYTES_MAX,
            Self::Certificate => CERTIFICATE_BYTES_MAX,
            Self::Peer => PEER_MESSAGE_BYTES_MAX,
            Self::Stored => BATCH_BYTES_MAX,
            Self::Push => PUSH_PREFIX_BYTES + BATCH_BYTES_MAX,
            Self::Gossip => GOSSIP_BYTES_MAX,
            Self::Removal => PAYLOAD_BYTES_MAX,
        }
    }
}

/// Why bytes are no frames. Nothing of them was acted on; the stream cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FrameError {
    /// The stream ends inside an object, or the rest of it comes too slowly.
    #[error("the stream ends inside a frame, or the rest of it comes too slowly")]
    Truncated,
    /// The kind is not known here, or not expected.
    #[error("frames of kind {kind} are not expected here")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// A flag or reserved byte is set that is not known here.
    #[error("a frame has flags that are not known here")]
    Flags,
    /// It is longer than its kind allows.
    #[error("a frame of kind {kind} has {bytes} bytes or more, the limit is {max}")]
    TooLong {
        /// The kind's number.
        kind: u8,
        /// Bytes it claims, with those of its slices before.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Another kind of frame came before an object's last slice.
    #[error("a frame of kind {kind} stands between the slices of another")]
    Interrupted {
        /// The kind that came.
        kind: u8,
    },
}

/// One object off a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Its bytes, slices put together.
    pub payload: Bytes,
}

/// A frame's 8 bytes.
pub fn header(kind: Kind, payload_bytes: usize, flags: u8) -> [u8; FRAME_HEADER_BYTES] {
    assert!(payload_bytes <= FRAME_PAYLOAD_BYTES_MAX, "larger objects are sliced");
    let length = (payload_bytes as u32).to_le_bytes();
    [length[0], length[1], length[2], length[3], kind as u8, flags, 0, 0]
}

/// Puts an object in frames: `prefix`, which is copied, then `payload`, which is not. What comes out is written to
/// the stream one behind the other. Panics when the object is over its kind's limit: whoever made it knows better.
pub fn put(kind: Kind, prefix: &[u8], payload: Bytes, out: &mut Vec<Bytes>) {
    let total = prefix.len() + payload.len();
    assert!(total <= kind.bytes_max(), "an object is within its kind's limit");
    assert!(prefix.len() <= FRAME_PAYLOAD_BYTES_MAX, "a prefix is small");
    let (mut rest, mut prefix) = (payload, prefix);
    loop {
        let room = FRAME_PAYLOAD_BYTES_MAX - prefix.len();
        let slice = rest.split_to(rest.len().min(room));
        let flags = if rest.is_empty() { 0 } else { MORE };
        let mut front = BytesMut::with_capacity(FRAME_HEADER_BYTES + prefix.len());
        front.extend_from_slice(&header(kind, prefix.len() + slice.len(), flags));
        front.extend_from_slice(prefix);
        out.push(front.freeze());
        if !slice.is_empty() {
            out.push(slice);
        }
        if rest.is_empty() {
            return;
        }
        prefix = &[];
    }
}

/// Puts a small object (a message, say) in one frame behind what `out` holds already.
pub fn put_small(kind: Kind, payload: &[u8], out: &mut BytesMut) {
    put_small_object(kind, &[], payload, out);
}

/// The same with a prefix before the payload.
pub fn put_small_object(kind: Kind, prefix: &[u8], payload: &[u8], out: &mut BytesMut) {
    let bytes = prefix.len() + payload.len();
    out.reserve(FRAME_HEADER_BYTES + bytes);
    out.extend_from_slice(&header(kind, bytes, 0));
    out.extend_from_slice(prefix);
    out.extend_from_slice(payload);
}

/// Puts frames together from bytes as they arrive, however they are cut.
#[derive(Debug)]
pub struct Decoder {
    kinds: &'static [Kind],
    head: [u8; FRAME_HEADER_BYTES],
    head_bytes: usize,
    /// The frame under way: its kind, whether its object goes on, and payload bytes still to come.
    body: Option<(Kind, bool, usize)>,
    /// Kind of the object whose slices are being put together.
    slices_of: Option<Kind>,
    assembled: BytesMut,
}

impl Decoder {
    /// A decoder that takes frames of `kinds` only.
    pub fn new(kinds: &'static [Kind]) -> Self {
        let head = [0; FRAME_HEADER_BYTES];
        Self { kinds, head, head_bytes: 0, body: None, slices_of: None, assembled: BytesMut::new() }
    }

    /// From now on takes frames of `kinds` only.
    pub fn expect(&mut self, kinds: &'static [Kind]) {
        self.kinds = kinds;
    }

    /// Takes bytes off the front of `input` up to the end of the next object. Answers `None` when `input` is used up
    /// before that. A small object that arrived whole is a slice of `input`, not a copy.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            let (kind, more, left) = match self.body {
                Some(body) => body,
                None => match self.read_header(input)? {
                    Some(body) => body,
                    None => return Ok(None),
                },
            };
            if !more && self.assembled.is_empty() && input.len() >= left {
                self.finish_frame(false);
                return Ok(Some(Frame { kind, payload: input.split_to(left) }));
            }
            let taken = input.split_to(input.len().min(left));
            self.make_room(left);
            self.assembled.extend_from_slice(&taken);
            if taken.len() < left {
                self.body = Some((kind, more, left - taken.len()));
                return Ok(None);
            }
            self.finish_frame(more);
            if !more {
                let payload = std::mem::take(&mut self.assembled).freeze();
                return Ok(Some(Frame { kind, payload }));
            }
        }
    }

    /// Says that no more bytes will come.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.is_between() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Bytes of the object under way that have arrived: what it costs to wait for the rest.
    pub fn assembled_bytes(&self) -> usize {
        self.assembled.len()
    }

    /// Whether no part of an object has come.
    pub fn is_between(&self) -> bool {
        self.head_bytes == 0 && self.body.is_none() && self.slices_of.is_none()
    }

    /// Bytes that the object under way may come to have, once its first header says so: those of its one frame, or all
    /// that its kind allows when it is larger than a frame.
    pub fn announced_bytes(&self) -> Option<usize> {
        match (self.slices_of, self.body) {
            (Some(kind), _) | (None, Some((kind, true, _))) => Some(kind.bytes_max()),
            (None, Some((_, false, left))) => Some(self.assembled.len() + left),
            (None, None) => None,
        }
    }

    fn read_header(&mut self, input: &mut Bytes) -> Result<Option<(Kind, bool, usize)>, FrameError> {
        let taken = input.split_to(input.len().min(FRAME_HEADER_BYTES - self.head_bytes));
        self.head[self.head_bytes..self.head_bytes + taken.len()].copy_from_slice(&taken);
        self.head_bytes += taken.len();
        if self.head_bytes < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let body = self.check_header()?;
        self.body = Some(body);
        Ok(Some(body))
    }

    fn check_header(&self) -> Result<(Kind, bool, usize), FrameError> {
        let [l0, l1, l2, l3, kind_byte, flags, r0, r1] = self.head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let kind = Kind::of(kind_byte)
            .filter(|kind| self.kinds.contains(kind))
            .ok_or(FrameError::Kind { kind: kind_byte })?;
        if flags & !MORE != 0 || (r0, r1) != (0, 0) {
            return Err(FrameError::Flags);
        }
        if self.slices_of.is_some_and(|slices| slices != kind) {
            return Err(FrameError::Interrupted { kind: kind_byte });
        }
        let bytes = self.assembled.len() + length;
        let max = kind.bytes_max();
        if length > FRAME_PAYLOAD_BYTES_MAX || bytes > max {
            let max = max.min(FRAME_PAYLOAD_BYTES_MAX);
            return Err(FrameError::TooLong { kind: kind_byte, bytes, max });
        }
        // An empty slice could be repeated for ever without ever reaching the limit.
        if flags & MORE != 0 && length == 0 {
            return Err(FrameError::Flags);
        }
        Ok((kind, flags & MORE != 0, length))
    }

    fn finish_frame(&mut self, more: bool) {
        self.slices_of = self.body.filter(|_| more).map(|(kind, ..)| kind);
        self.head_bytes = 0;
        self.body = None;
    }

    /// Room for as much again as has arrived, or for what is left, whichever is less.
    fn make_room(&mut self, left: usize) {
        if self.assembled.len() == self.assembled.capacity() {
            self.assembled.reserve(left.min(self.assembled.len().max(FIRST_ROOM_BYTES)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: Kind, prefix: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(kind, prefix, Bytes::copy_from_slice(payload), &mut out);
        out.concat()
    }

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::new(&Kind::ALL), Vec::new());
        for part in bytes.chunks(piece) {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(frame) = decoder.decode(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty());
        }
        decoder.finish().map(|()| frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let big = vec![7u8; FRAME_PAYLOAD_BYTES_MAX * 2 + 5];
        let mut bytes = framed(Kind::Chunk, b"ab", b"cd");
        bytes.extend(framed(Kind::Reply, b"", b""));
        bytes.extend(framed(Kind::Batch, b"0123", &big));
        bytes.extend(framed(Kind::Certificate, b"", b"x"));
        for piece in [1, 7, 1400, 100_000, bytes.len()] {
            let frames = decode_in_pieces(&bytes, piece).unwrap();
            let told: Vec<_> = frames.iter().map(|f| (f.kind, f.payload.len())).collect();
            let expected =
                [(Kind::Chunk, 4), (Kind::Reply, 0), (Kind::Batch, 4 + big.len()), (Kind::Certificate, 1)];
            assert_eq!(told, expected, "in pieces of {piece}");
            assert_eq!(&frames[0].payload[..], b"abcd");
        }
    }

    #[test]
    fn a_bad_header_is_a_typed_error_before_any_room_is_made() {
        let head = |bytes: u32, kind: u8, flags: u8, reserved: u8| {
            let l = bytes.to_le_bytes();
            vec![l[0], l[1], l[2], l[3], kind, flags, reserved, 0]
        };
        let max = MESSAGE_BYTES_MAX;
        let cases = [
            (head(u32::MAX, 1, 0, 0), FrameError::TooLong { kind: 1, bytes: u32::MAX as usize, max }),
            (head(max as u32 + 1, 2, 0, 0), FrameError::TooLong { kind: 2, bytes: max + 1, max }),
            (
                head(FRAME_BYTES_MAX as u32, 3, 0, 0),
                FrameError::TooLong { kind: 3, bytes: FRAME_BYTES_MAX, max: FRAME_PAYLOAD_BYTES_MAX },
            ),
            (head(1, 0, 0, 0), FrameError::Kind { kind: 0 }),
            (head(1, 99, 0, 0), FrameError::Kind { kind: 99 }),
            (head(1, 1, 2, 0), FrameError::Flags),
            (head(1, 1, 0, 1), FrameError::Flags),
            (head(0, 3, MORE, 0), FrameError::Flags),
            (head(1, 3, MORE, 0), FrameError::Truncated),
            (head(5, 3, 0, 0), FrameError::Truncated),
            (head(5, 3, 0, 0)[..7].to_vec(), FrameError::Truncated),
            ([head(1, 3, MORE, 0), vec![0], head(1, 4, 0, 0)].concat(), FrameError::Interrupted { kind: 4 }),
        ];
        for (bytes, why) in cases {
            assert_eq!(decode_in_pieces(&bytes, 3), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn slices_never_add_up_to_more_than_their_kind_allows() {
        let slice =
            [&header(Kind::Chunk, FRAME_PAYLOAD_BYTES_MAX, MORE)[..], &vec![0; FRAME_PAYLOAD_BYTES_MAX]]
                .concat();
        let mut decoder = Decoder::new(&[Kind::Chunk]);
        let error = loop {
            match decoder.decode(&mut Bytes::from(slice.clone())) {
                Ok(None) => assert!(decoder.assembled_bytes() <= Kind::Chunk.bytes_max()),
                other => break other,
            }
        };
        assert!(matches!(error, Err(FrameError::TooLong { kind: 3, .. })));
    }

    #[test]
    fn what_an_object_may_come_to_is_known_from_its_first_header_on() {
        let mut decoder = Decoder::new(&Kind::ALL);
        let mut feed = |bytes: &[u8]| {
            let mut input = Bytes::copy_from_slice(bytes);
            let whole = decoder.decode(&mut input).unwrap().is_some();
            (whole, decoder.is_between(), decoder.announced_bytes())
        };
        let small = framed(Kind::Chunk, b"", &[7; 100]);
        assert_eq!(feed(&small[..5]), (false, false, None));
        assert_eq!(feed(&small[5..60]), (false, false, Some(100)));
        assert_eq!(feed(&small[60..]), (true, true, None));
        let slice = [&header(Kind::Batch, 100, MORE)[..], &[7; 100]].concat();
        for cut in [20, 108] {
            assert_eq!(feed(&slice[..cut]), (false, false, Some(Kind::Batch.bytes_max())));
            assert_eq!(feed(&slice[cut..]), (false, false, Some(Kind::Batch.bytes_max())));
        }
    }

    #[test]
    fn room_follows_what_has_arrived() {
        let mut decoder = Decoder::new(&[Kind::Batch]);
        let mut input = Bytes::copy_from_slice(&header(Kind::Batch, FRAME_PAYLOAD_BYTES_MAX, 0));
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.assembled.capacity() <= 2 * FIRST_ROOM_BYTES);
        for _ in 0..100 {
            assert_eq!(decoder.decode(&mut Bytes::from(vec![0; 1400])), Ok(None));
            let room = decoder.assembled.capacity();
            assert!(room <= 2 * decoder.assembled_bytes().max(FIRST_ROOM_BYTES) + 1400, "{room}");
        }
    }
}
