//! An entry as JSON, both ways, so that what `read -o json` prints is what `append --ndjson` takes.
//!
//! Bytes that are UTF-8 stand as text (`payload`), others in base64 under a name that says so (`payload_base64`).
use crate::base::name::short_run;
use crate::base::{Entry, EntryId, EntryKind, PeerName, RunId, Timestamp, TopicName};
use crate::wire::when::{parse_at, show_time};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An entry with its name and time, as printed.
#[derive(Debug, Serialize)]
pub struct RecordJson {
    id: String,
    topic: String,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_name: Option<PeerName>,
    run: String,
    /// The run that forked, where the entry is in a branch of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch_of: Option<String>,
    seq: u64,
    time: String,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(flatten)]
    entry: EntryJson,
}

/// Where an entry stands, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its topic.
    pub topic: &'a TopicName,
    /// Its name.
    pub id: EntryId,
    /// The run that was signed: that of its name, or the one that this is a branch of.
    pub signed_run: RunId,
    /// What people call the peer that appended it, where known.
    pub peer_name: Option<&'a PeerName>,
    /// When it was appended.
    pub time: Timestamp,
}

impl Named<'_> {
    /// The short id, as [`crate::base::EntryRef`] reads it.
    pub fn short_id(&self) -> String {
        let (run, seq) = (short_run(self.id.run, self.signed_run), self.id.seq);
        match self.peer_name {
            Some(name) => format!("{}/{name}.{run}/{seq}", self.topic),
            None => format!("{}/{}.{run}/{seq}", self.topic, self.id.peer),
        }
    }
}

impl RecordJson {
    /// Everything that is known of an entry.
    pub fn of(named: &Named<'_>, entry: &Entry) -> Self {
        let Named { topic, id, signed_run, peer_name, time } = *named;
        Self {
            id: named.short_id(),
            topic: topic.to_string(),
            peer: id.peer.to_string(),
            peer_name: peer_name.cloned(),
            run: id.run.to_string(),
            branch_of: (signed_run != id.run).then(|| signed_run.to_string()),
            seq: id.seq.0,
            time: show_time(time.ms()),
            time_ms: time.ms(),
            kind: (entry.kind != EntryKind::Data).then(|| format!("{:?}", entry.kind)),
            entry: EntryJson::from(entry),
        }
    }
}

/// Why JSON is no entry, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EntryJsonError(String);

type Result<T> = std::result::Result<T, EntryJsonError>;

macro_rules! bail {
    ($($words:tt)*) => { return Err(EntryJsonError(format!($($words)*))) };
}

/// What a user says of an entry. Whatever `read -o json` adds to it is known and passed over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EntryJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "HeadersJson::is_empty")]
    headers: HeadersJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<TimeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_at: Option<TimeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_base64: Option<String>,
    #[serde(flatten, skip_serializing)]
    added: AddedJson,
}

/// What a record has that an entry has not.
#[derive(Debug, Default, Deserialize)]
struct AddedJson {
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

const ADDED: &[&str] = &["id", "topic", "peer", "peer_name", "run", "branch_of", "seq", "time", "time_ms"];
/// What stands between records instead of one.
const TOLD: &[&str] = &["gap", "blocked"];

/// Headers: an object where each has another name and text for a value, else a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum HeadersJson {
    Object(BTreeMap<String, String>),
    List(Vec<HeaderJson>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Default for HeadersJson {
    fn default() -> Self {
        Self::Object(BTreeMap::new())
    }
}

impl HeadersJson {
    fn is_empty(&self) -> bool {
        match self {
            Self::Object(headers) => headers.is_empty(),
            Self::List(headers) => headers.is_empty(),
        }
    }
}

/// A time: Unix milliseconds, or text (a time, or a duration from now).
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum TimeJson {
    Ms(u64),
    Text(String),
}

impl TimeJson {
    fn ms(self, now_ms: u64) -> Result<u64> {
        match self {
            Self::Ms(ms) => Ok(ms),
            Self::Text(text) => parse_at(&text, now_ms).map_err(EntryJsonError),
        }
    }
}

/// Text where the bytes are UTF-8, else base64.
fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn split_filled(bytes: &[u8]) -> (Option<String>, Option<String>) {
    if bytes.is_empty() { (None, None) } else { split(bytes) }
}

fn join(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes> {
    match (text, base64) {
        (Some(_), Some(_)) => bail!("give {name} or {name}_base64, not both"),
        (Some(text), None) => Ok(text.into()),
        (None, Some(word)) => {
            let bad = |_| EntryJsonError(format!("{name}_base64 is not base64"));
            STANDARD.decode(word).map(Bytes::from).map_err(bad)
        }
        (None, None) => Ok(Bytes::new()),
    }
}

impl From<&Entry> for EntryJson {
    fn from(entry: &Entry) -> Self {
        let (payload, payload_base64) = split(&entry.payload);
        let (key, key_base64) = split_filled(&entry.key);
        let (unique, unique_base64) = split_filled(&entry.unique);
        Self {
            payload,
            payload_base64,
            key,
            key_base64,
            tags: entry.tags.clone(),
            headers: headers_json(&entry.headers),
            priority: entry.priority,
            deliver_at: entry.deliver_at_ms.map(TimeJson::Ms),
            expire_at: entry.expire_at_ms.map(TimeJson::Ms),
            unique,
            unique_base64,
            added: AddedJson::default(),
        }
    }
}

fn headers_json(headers: &[(String, Bytes)]) -> HeadersJson {
    let text = |(name, value): &(String, Bytes)| {
        std::str::from_utf8(value).ok().map(|value| (name.clone(), value.to_owned()))
    };
    let object: Option<BTreeMap<String, String>> = headers.iter().map(text).collect();
    match object {
        Some(object) if object.len() == headers.len() => HeadersJson::Object(object),
        _ => HeadersJson::List(
            headers
                .iter()
                .map(|(name, value)| {
                    let (value, value_base64) = split(value);
                    HeaderJson { name: name.clone(), value, value_base64 }
                })
                .collect(),
        ),
    }
}

impl EntryJson {
    /// The entry that is meant, where times count from `now_ms`.
    pub fn entry(self, now_ms: u64) -> Result<Entry> {
        let json = self;
        if let Some(kind) = json.added.rest.get("kind") {
            bail!("an entry of kind {kind} is Conveyor's own, and is not appended");
        }
        if let Some(unknown) = json.added.rest.keys().find(|name| !ADDED.contains(&name.as_str())) {
            bail!(
                "there is no field {unknown:?}; fields are payload, key, tags, headers, priority, deliver_at, expire_at, unique"
            );
        }
        let headers = match json.headers {
            HeadersJson::Object(headers) => headers.into_iter().map(|(n, v)| (n, v.into())).collect(),
            HeadersJson::List(headers) => {
                let bytes = |h: HeaderJson| Ok((h.name, join("value", h.value, h.value_base64)?));
                headers.into_iter().map(bytes).collect::<Result<_>>()?
            }
        };
        let ms = |time: Option<TimeJson>| time.map(|time| time.ms(now_ms)).transpose();
        Ok(Entry {
            payload: join("payload", json.payload, json.payload_base64)?,
            key: join("key", json.key, json.key_base64)?,
            tags: json.tags,
            headers,
            priority: json.priority,
            deliver_at_ms: ms(json.deliver_at)?,
            expire_at_ms: ms(json.expire_at)?,
            unique: join("unique", json.unique, json.unique_base64)?,
            ..Entry::default()
        })
    }
}

/// A line of NDJSON.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// An entry.
    Entry(Entry),
    /// What `read -o json` says between entries: that something is not there, in its words.
    Told(String),
}

/// Reads one line of NDJSON, where times count from `now_ms`.
pub fn parse_line(line: &[u8], now_ms: u64) -> Result<Line> {
    let json: EntryJson = serde_json::from_slice(line).map_err(|error| {
        // The parser saw this one line, and would call it line 1.
        let (told, at) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
        EntryJsonError(format!("{} (column {})", told.strip_suffix(&at).unwrap_or(&told), error.column()))
    })?;
    match told(line, &json) {
        Some(told) => Ok(Line::Told(told)),
        None => json.entry(now_ms).map(Line::Entry),
    }
}

/// What a line tells of entries that are not there, where it does nothing else.
fn told(line: &[u8], json: &EntryJson) -> Option<String> {
    let name = TOLD.iter().find(|name| json.added.rest.contains_key(**name))?;
    let whole: BTreeMap<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let what = whole.get(*name).filter(|what| whole.len() == 1 && what.is_object())?;
    Some(format!("{name}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_taken() {
        let plain = Entry {
            payload: "text".into(),
            key: "k".into(),
            tags: vec!["a".into()],
            headers: vec![("n".into(), "v".into())],
            priority: Some(9),
            deliver_at_ms: Some(5),
            ..Entry::default()
        };
        let odd = Entry {
            payload: vec![0xff, 0].into(),
            key: vec![0xfe].into(),
            headers: vec![("n".into(), "1".into()), ("n".into(), vec![0xff].into())],
            ..Entry::default()
        };
        for entry in [plain, odd, Entry::default()] {
            let mut line = serde_json::to_value(EntryJson::from(&entry)).unwrap();
            for added in ADDED {
                line[added] = "x".into();
            }
            assert_eq!(parse_line(line.to_string().as_bytes(), 0).unwrap(), Line::Entry(entry), "{line}");
        }
    }

    #[test]
    fn what_is_told_between_entries_is_no_entry() {
        let gap = r#"{"gap":{"peer":"p","run":"r","first_seq":1,"next_seq":3,"reason":"trimmed"}}"#;
        let Line::Told(told) = parse_line(gap.as_bytes(), 0).unwrap() else { panic!("it is no entry") };
        assert!(told.starts_with("gap: {"), "{told}");
        assert!(matches!(parse_line(br#"{"blocked":{}}"#, 0), Ok(Line::Told(_))));
        for mixed in [r#"{"gap":{},"payload":"a"}"#, r#"{"gap":1}"#] {
            let error = parse_line(mixed.as_bytes(), 0).unwrap_err().to_string();
            assert!(error.contains("there is no field \"gap\""), "{error}");
        }
        let error = parse_line(br#"{"payload":"{}","kind":"TopicSet"}"#, 0).unwrap_err().to_string();
        assert!(error.contains("of kind \"TopicSet\" is Conveyor's own"), "{error}");
    }

    #[test]
    fn mistakes_in_a_line_are_named() {
        let told = |line: &str| parse_line(line.as_bytes(), 0).unwrap_err().to_string();
        assert!(told(r#"{"payload":"a","payload_base64":"YQ=="}"#).contains("not both"));
        assert!(told(r#"{"payload_base64":"*"}"#).contains("payload_base64 is not base64"));
        assert!(told(r#"{"paylod":"a"}"#).contains("there is no field \"paylod\""));
        assert!(told(r#"{"deliver_at":"soon"}"#).contains("give a time as"));
        assert_eq!(told("{]"), "key must be a string (column 2)");
    }
}
