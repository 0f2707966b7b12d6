//! One record as bytes: a payload and what its writer said about it.
//!
//! ```text
//! length (varint) | kind u8 | fields u16 | the fields whose bits are set, in order | payload
//! ```
//!
//! An entry delimits itself and holds no seq, no time and no offset: its peer numbers and stamps many clients'
//! bytes together without rewriting them. One value has one encoding: numbers in their shortest form, and no
//! field present that is empty, so that equal entries have equal digests.
use crate::base::bytes_io::{Reader, Truncated, put_var_bytes, put_varint, varint_bytes};
use crate::base::ids::ProducerId;
use crate::base::limits::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[repr(u8)]
pub enum EntryKind {
    /// What a user appended.
    #[default]
    Data = 0,
    /// Bytes over a base entry (reserved).
    Patch = 1,
    /// The end of a key (reserved for views by key).
    Tombstone = 2,
    /// In `$catalog`: the settings of a topic.
    TopicSet = 32,
    /// In `$catalog`: the request to delete a topic up to a frontier.
    TopicDelete = 33,
    /// In `$catalog`: that a peer is removed for good.
    PeerRemove = 34,
    /// In `$groups/…`: what a group did.
    Group = 35,
}

impl EntryKind {
    fn of(byte: u8) -> Option<Self> {
        use EntryKind::*;
        [Data, Patch, Tombstone, TopicSet, TopicDelete, PeerRemove, Group]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are no entry, or an entry cannot be encoded. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EntryError {
    /// The bytes end inside the entry, or a length or number is not in its shortest form.
    #[error("the bytes of an entry are cut short or not in their shortest form")]
    Malformed,
    /// The kind is not known here.
    #[error("entries of kind {kind} are not known here")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// A field bit is set that is not known here, or a field is present and empty.
    #[error("an entry has fields that are not known here or are empty")]
    Fields,
    /// A part is longer than its limit.
    #[error("{what} has {bytes} bytes, the limit is {max}")]
    TooLong {
        /// Which part.
        what: EntryPart,
        /// Its length in bytes (or how many, for tags and headers).
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The priority is above 9.
    #[error("the priority is {priority}, the highest is {PRIORITY_MAX}")]
    Priority {
        /// What was given.
        priority: u8,
    },
}

/// The parts of an entry that have a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryPart {
    /// The payload.
    Payload,
    /// The key.
    Key,
    /// The number of tags.
    Tags,
    /// One tag.
    Tag,
    /// The number of headers.
    Headers,
    /// One header's name.
    HeaderName,
    /// One header's value.
    HeaderValue,
    /// The unique id.
    Unique,
    /// Everything but the payload.
    Meta,
}

impl std::fmt::Display for EntryPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Payload => "the payload",
            Self::Key => "the key",
            Self::Tags => "the number of tags",
            Self::Tag => "a tag",
            Self::Headers => "the number of headers",
            Self::HeaderName => "a header's name",
            Self::HeaderValue => "a header's value",
            Self::Unique => "the unique id",
            Self::Meta => "an entry without its payload",
        })
    }
}

impl From<Truncated> for EntryError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// An entry as a program builds it. `Entry::from(payload)` is the whole of the common case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// What it is; users append [`EntryKind::Data`].
    pub kind: EntryKind,
    /// The bytes, at most 16 MiB.
    pub payload: Bytes,
    /// A key to filter by, at most 1 024 bytes. Empty: none.
    pub key: Bytes,
    /// At most 64 tags of 1 to 256 bytes each.
    pub tags: Vec<String>,
    /// At most 64 headers: names of 1 to 256 bytes, values of up to 4 096.
    pub headers: Vec<(String, Bytes)>,
    /// 0 (lowest) to 9; `None` counts as 4.
    pub priority: Option<u8>,
    /// Unix milliseconds before which no group hands it out; at most ten years ahead when it is appended.
    pub deliver_at_ms: Option<u64>,
    /// Unix milliseconds from which on no group hands it out.
    pub expire_at_ms: Option<u64>,
    /// An id by which a view finds duplicates, at most 256 bytes. Empty: none.
    pub unique: Bytes,
    /// Who produced it and under which number, so that a retry is recognised.
    pub producer: Option<(ProducerId, u64)>,
    /// Bytes kept free for later patches (reserved for views).
    pub reserved_bytes: Option<u32>,
}

impl From<Bytes> for Entry {
    fn from(payload: Bytes) -> Self {
        Self { payload, ..Self::default() }
    }
}

impl From<Vec<u8>> for Entry {
    fn from(payload: Vec<u8>) -> Self {
        Bytes::from(payload).into()
    }
}

impl From<&[u8]> for Entry {
    fn from(payload: &[u8]) -> Self {
        Bytes::copy_from_slice(payload).into()
    }
}

impl From<&str> for Entry {
    fn from(payload: &str) -> Self {
        payload.as_bytes().into()
    }
}

impl From<String> for Entry {
    fn from(payload: String) -> Self {
        Bytes::from(payload).into()
    }
}

const HAS_KEY: u16 = 1;
const HAS_TAGS: u16 = 1 << 1;
const HAS_HEADERS: u16 = 1 << 2;
const HAS_PRIORITY: u16 = 1 << 3;
const HAS_DELIVER_AT: u16 = 1 << 4;
const HAS_EXPIRE_AT: u16 = 1 << 5;
const HAS_UNIQUE: u16 = 1 << 6;
const HAS_PRODUCER: u16 = 1 << 7;
const HAS_RESERVED: u16 = 1 << 8;
const KNOWN_FIELDS: u16 = (1 << 9) - 1;

fn limit(what: EntryPart, bytes: usize, max: usize) -> Result<(), EntryError> {
    if bytes > max { Err(EntryError::TooLong { what, bytes, max }) } else { Ok(()) }
}

impl Entry {
    /// Appends the entry's bytes to `out`; on an error `out` is as before. Returns how many bytes it took.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<usize, EntryError> {
        self.check()?;
        let mut meta = Vec::with_capacity(32);
        meta.push(self.kind as u8);
        meta.extend_from_slice(&self.fields().to_le_bytes());
        self.put_fields(&mut meta);
        limit(EntryPart::Meta, meta.len(), ENTRY_META_BYTES_MAX - 8)?;
        let before = out.len();
        let length = meta.len() + self.payload.len();
        out.reserve(length + varint_bytes(length as u64));
        put_varint(out, length as u64);
        out.extend_from_slice(&meta);
        out.extend_from_slice(&self.payload);
        Ok(out.len() - before)
    }

    fn fields(&self) -> u16 {
        let bit = |present: bool, bit: u16| if present { bit } else { 0 };
        bit(!self.key.is_empty(), HAS_KEY)
            | bit(!self.tags.is_empty(), HAS_TAGS)
            | bit(!self.headers.is_empty(), HAS_HEADERS)
            | bit(self.priority.is_some(), HAS_PRIORITY)
            | bit(self.deliver_at_ms.is_some(), HAS_DELIVER_AT)
            | bit(self.expire_at_ms.is_some(), HAS_EXPIRE_AT)
            | bit(!self.unique.is_empty(), HAS_UNIQUE)
            | bit(self.producer.is_some(), HAS_PRODUCER)
            | bit(self.reserved_bytes.is_some(), HAS_RESERVED)
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        if !self.key.is_empty() {
            put_var_bytes(out, &self.key);
        }
        if !self.tags.is_empty() {
            put_varint(out, self.tags.len() as u64);
            self.tags.iter().for_each(|tag| put_var_bytes(out, tag.as_bytes()));
        }
        if !self.headers.is_empty() {
            put_varint(out, self.headers.len() as u64);
            for (name, value) in &self.headers {
                put_var_bytes(out, name.as_bytes());
                put_var_bytes(out, value);
            }
        }
        out.extend(self.priority);
        for time in [self.deliver_at_ms, self.expire_at_ms].into_iter().flatten() {
            out.extend_from_slice(&time.to_le_bytes());
        }
        if !self.unique.is_empty() {
            put_var_bytes(out, &self.unique);
        }
        if let Some((producer, number)) = self.producer {
            out.extend_from_slice(&producer.0.to_le_bytes());
            put_varint(out, number);
        }
        if let Some(reserved) = self.reserved_bytes {
            out.extend_from_slice(&reserved.to_le_bytes());
        }
    }

    fn check(&self) -> Result<(), EntryError> {
        limit(EntryPart::Payload, self.payload.len(), PAYLOAD_BYTES_MAX)?;
        limit(EntryPart::Key, self.key.len(), KEY_BYTES_MAX)?;
        limit(EntryPart::Unique, self.unique.len(), UNIQUE_BYTES_MAX)?;
        limit(EntryPart::Tags, self.tags.len(), TAG_COUNT_MAX)?;
        limit(EntryPart::Headers, self.headers.len(), HEADER_COUNT_MAX)?;
        for tag in &self.tags {
            check_tag(tag)?;
        }
        for (name, value) in &self.headers {
            check_header(name, value)?;
        }
        check_priority(self.priority)
    }
}

fn check_tag(tag: &str) -> Result<(), EntryError> {
    if tag.is_empty() { Err(EntryError::Fields) } else { limit(EntryPart::Tag, tag.len(), TAG_BYTES_MAX) }
}

fn check_header(name: &str, value: &[u8]) -> Result<(), EntryError> {
    if name.is_empty() {
        return Err(EntryError::Fields);
    }
    limit(EntryPart::HeaderName, name.len(), HEADER_NAME_BYTES_MAX)?;
    limit(EntryPart::HeaderValue, value.len(), HEADER_VALUE_BYTES_MAX)
}

fn check_priority(priority: Option<u8>) -> Result<(), EntryError> {
    match priority {
        Some(priority) if priority > PRIORITY_MAX => Err(EntryError::Priority { priority }),
        _ => Ok(()),
    }
}

/// An entry read in place: the bytes it borrows were checked against every limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// The raw entry, of which the digest is taken.
    pub raw: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// The payload.
    pub payload: &'a [u8],
    /// The key; empty when there is none.
    pub key: &'a [u8],
    /// Unix milliseconds before which no group hands it out.
    pub deliver_at_ms: Option<u64>,
    /// Unix milliseconds from which on no group hands it out.
    pub expire_at_ms: Option<u64>,
    /// Who produced it and under which number.
    pub producer: Option<(ProducerId, u64)>,
    fields: u16,
    tags: &'a [u8],
    headers: &'a [u8],
    priority: Option<u8>,
    unique: &'a [u8],
    reserved_bytes: Option<u32>,
}

impl<'a> EntryView<'a> {
    /// Reads the entry at the start of `bytes`; what follows it is `bytes[view.raw.len()..]`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let mut outer = Reader::new(bytes);
        let length = outer.varint()?;
        if length > ENTRY_BYTES_MAX as u64 {
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            return Err(EntryError::TooLong { what: EntryPart::Payload, bytes, max: PAYLOAD_BYTES_MAX });
        }
        let mut inner = Reader::new(outer.take(length as usize)?);
        let raw = &bytes[..bytes.len() - outer.rest().len()];
        let kind = inner.u8()?;
        let kind = EntryKind::of(kind).ok_or(EntryError::Kind { kind })?;
        let fields = inner.u16()?;
        if fields & !KNOWN_FIELDS != 0 {
            return Err(EntryError::Fields);
        }
        let has = |bit: u16| fields & bit != 0;
        let mut view = Self {
            raw,
            kind,
            fields,
            payload: &[],
            key: &[],
            deliver_at_ms: None,
            producer: None,
            tags: &[],
            headers: &[],
            priority: None,
            expire_at_ms: None,
            unique: &[],
            reserved_bytes: None,
        };
        if has(HAS_KEY) {
            view.key = filled(&mut inner, KEY_BYTES_MAX)?;
        }
        if has(HAS_TAGS) {
            view.tags = span(&mut inner, read_tags)?;
        }
        if has(HAS_HEADERS) {
            view.headers = span(&mut inner, read_headers)?;
        }
        if has(HAS_PRIORITY) {
            view.priority = Some(inner.u8()?);
            check_priority(view.priority)?;
        }
        if has(HAS_DELIVER_AT) {
            view.deliver_at_ms = Some(inner.u64()?);
        }
        if has(HAS_EXPIRE_AT) {
            view.expire_at_ms = Some(inner.u64()?);
        }
        if has(HAS_UNIQUE) {
            view.unique = filled(&mut inner, UNIQUE_BYTES_MAX)?;
        }
        if has(HAS_PRODUCER) {
            view.producer = Some((ProducerId(inner.u64()?), inner.varint()?));
        }
        if has(HAS_RESERVED) {
            view.reserved_bytes = Some(inner.u32()?);
        }
        view.payload = inner.rest();
        limit(EntryPart::Payload, view.payload.len(), PAYLOAD_BYTES_MAX)?;
        limit(EntryPart::Meta, raw.len() - view.payload.len(), ENTRY_META_BYTES_MAX)?;
        Ok(view)
    }

    /// Its priority, [`PRIORITY_DEFAULT`] when it names none.
    pub fn priority(&self) -> u8 {
        self.priority.unwrap_or(PRIORITY_DEFAULT)
    }

    /// The entry as a value of its own; copies.
    pub fn to_entry(&self) -> Entry {
        self.build(Bytes::copy_from_slice)
    }

    /// The entry as a value that shares its bytes with `raw`. Panics when this is not a view into `raw`.
    pub fn to_entry_within(&self, raw: &Bytes) -> Entry {
        self.build(|part| raw.slice_ref(part))
    }

    fn build(&self, own: impl Fn(&[u8]) -> Bytes) -> Entry {
        // Both were walked when the view was made, so they read again.
        let tags =
            if self.fields & HAS_TAGS != 0 { read_tags(&mut Reader::new(self.tags)) } else { Ok(vec![]) };
        let headers = if self.fields & HAS_HEADERS != 0 {
            read_headers(&mut Reader::new(self.headers))
        } else {
            Ok(vec![])
        };
        let header = |(name, value): (&str, &[u8])| (name.to_owned(), own(value));
        Entry {
            kind: self.kind,
            payload: own(self.payload),
            key: own(self.key),
            tags: tags.unwrap_or_default().into_iter().map(str::to_owned).collect(),
            headers: headers.unwrap_or_default().into_iter().map(header).collect(),
            priority: self.priority,
            deliver_at_ms: self.deliver_at_ms,
            expire_at_ms: self.expire_at_ms,
            unique: own(self.unique),
            producer: self.producer,
            reserved_bytes: self.reserved_bytes,
        }
    }
}

fn filled<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a [u8], EntryError> {
    let bytes = reader.var_bytes(max)?;
    if bytes.is_empty() { Err(EntryError::Fields) } else { Ok(bytes) }
}

/// The bytes that `read` walks over.
fn span<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, EntryError>,
) -> Result<&'a [u8], EntryError> {
    let before = reader.rest();
    read(reader)?;
    Ok(&before[..before.len() - reader.rest().len()])
}

fn count(reader: &mut Reader<'_>, what: EntryPart, max: usize) -> Result<usize, EntryError> {
    let count = reader.varint()?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    limit(what, count, max)?;
    if count == 0 { Err(EntryError::Fields) } else { Ok(count) }
}

fn text<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a str, EntryError> {
    std::str::from_utf8(reader.var_bytes(max)?).map_err(|_| EntryError::Malformed)
}

fn read_tags<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, EntryError> {
    let count = count(reader, EntryPart::Tags, TAG_COUNT_MAX)?;
    let mut tags = Vec::with_capacity(count);
    for _ in 0..count {
        let tag = text(reader, TAG_BYTES_MAX)?;
        check_tag(tag)?;
        tags.push(tag);
    }
    Ok(tags)
}

fn read_headers<'a>(reader: &mut Reader<'a>) -> Result<Vec<(&'a str, &'a [u8])>, EntryError> {
    let count = count(reader, EntryPart::Headers, HEADER_COUNT_MAX)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (text(reader, HEADER_NAME_BYTES_MAX)?, reader.var_bytes(HEADER_VALUE_BYTES_MAX)?);
        check_header(name, value)?;
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Entry {
        Entry {
            kind: EntryKind::Data,
            payload: Bytes::from_static(b"hello"),
            key: Bytes::from_static(b"k1"),
            tags: vec!["red".into(), "blue".into()],
            headers: vec![("a".into(), Bytes::from_static(b"1")), ("b".into(), Bytes::new())],
            priority: Some(9),
            deliver_at_ms: Some(1_800_000_000_000),
            expire_at_ms: Some(1_900_000_000_000),
            unique: Bytes::from_static(b"u"),
            producer: Some((ProducerId(7), 300)),
            reserved_bytes: Some(64),
        }
    }

    #[test]
    fn an_entry_reads_back_as_it_was_written_whatever_follows_it() {
        for entry in [full(), Entry::default(), Entry::from("x")] {
            let mut bytes = Vec::new();
            let length = entry.encode(&mut bytes).unwrap();
            assert_eq!(length, bytes.len());
            bytes.extend_from_slice(b"next");
            let view = EntryView::parse(&bytes).unwrap();
            assert_eq!(view.raw.len(), length);
            assert_eq!(view.to_entry(), entry);
            let raw = Bytes::from(bytes);
            assert_eq!(EntryView::parse(&raw).unwrap().to_entry_within(&raw), entry);
        }
    }

    #[test]
    fn a_plain_entry_costs_four_bytes_over_a_short_payload() {
        let mut bytes = Vec::new();
        Entry::from("0123456789").encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 10 + 4);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_gives_a_value_or_a_typed_error() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(EntryView::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                if let Ok(view) = EntryView::parse(&bad) {
                    let mut again = Vec::new();
                    view.to_entry().encode(&mut again).unwrap();
                    assert_eq!(again, view.raw, "one value, one encoding");
                }
            }
        }
    }

    #[test]
    fn what_is_over_a_limit_names_the_limit() {
        let key = Entry { key: Bytes::from(vec![0; KEY_BYTES_MAX + 1]), ..Entry::default() };
        let error = key.encode(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "the key has 1025 bytes, the limit is 1024");
        let priority = Entry { priority: Some(10), ..Entry::default() };
        assert_eq!(priority.encode(&mut Vec::new()), Err(EntryError::Priority { priority: 10 }));
        let payload = Entry::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
        assert!(matches!(payload.encode(&mut Vec::new()), Err(EntryError::TooLong { .. })));
        assert!(Entry::from(vec![0; PAYLOAD_BYTES_MAX]).encode(&mut Vec::new()).is_ok());
    }
}
