//! Appends: one payload with its meta among the headers, or a batch of lines of JSON, which is appended whole or not at all.
use super::body;
use super::call::{Call, json};
use super::entry::{Place, unlisted};
use super::problem::{Problem, ids};
use crate::api::allowed;
use crate::base::limits::{CHUNK_ENTRY_COUNT_MAX, CHUNK_RAW_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, ProducerId, TopicName, percent};
use crate::runtime::{SystemClock, WallClock as _};
use crate::wire::json::{Line, id_word, parse_line};
use crate::wire::outcome::Appended;
use crate::wire::when::{parse_at, show_time};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json as value;

/// A batch of lines at most: what they hold is bounded by what a chunk may, and JSON may need more for the same.
const LINES_BYTES_MAX: usize = 8 << 20;
/// The longest key of a repeated request.
const REPEAT_KEY_BYTES_MAX: usize = 256;

pub(super) async fn serve(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let topic = call.topic()?;
    allowed::append(call.rights(), &topic).map_err(|error| Problem::of_append(&topic, error))?;
    let durability = call.header("conveyor-durability")?.map(str::parse::<Durability>).transpose()?;
    let producer = producer(&call)?;
    let kind = call.header("content-type")?.unwrap_or_default().to_owned();
    let is_lines =
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-ndjson");
    let chunk = match is_lines {
        true => lines(&call.take_body(LINES_BYTES_MAX).await?, producer)?,
        false => {
            let entry = described(&call, &kind)?;
            let payload = call.take_body(PAYLOAD_BYTES_MAX).await?;
            let mut builder = ChunkBuilder::new();
            builder.push(&Entry { payload, producer: producer.map(|id| (id, 1)), ..entry })?;
            builder.finish(Codec::None)
        }
    };
    let counters = &call.shared.counters;
    counters.chunks_received.add(1);
    counters.chunk_bytes_received.add(chunk.len() as u64);
    let chunk = Chunk::parse(chunk).map_err(|error| Problem::of_append(&topic, error.into()))?;
    // Once it is taken it goes its way, whether or not the caller waits.
    let appended = call.handle().append(topic.clone(), durability, chunk).await.map_err(|error| {
        counters.appends_failed.add(1);
        Problem::of_append(&topic, error)
    })?;
    answer(&call, &topic, appended)
}

/// What makes a request sent again the same as the first: its key, of this client.
fn producer(call: &Call) -> Result<Option<ProducerId>, Problem> {
    let Some(key) = call.header("idempotency-key")? else { return Ok(None) };
    if key.is_empty() || key.len() > REPEAT_KEY_BYTES_MAX {
        let told = format!("Idempotency-Key has 1 to {REPEAT_KEY_BYTES_MAX} bytes");
        return Err(Problem::new("limit", told));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"CV-retry").update(call.claims.client.as_bytes()).update(&[0]).update(key.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    Ok(Some(ProducerId(u64::from_le_bytes([a, b, c, d, e, f, g, h]))))
}

/// An entry as the headers describe it, without its payload.
fn described(call: &Call, kind: &str) -> Result<Entry, Problem> {
    let bytes = |name: &str| -> Result<Bytes, Problem> {
        let Some(text) = call.header(name)? else { return Ok(Bytes::new()) };
        decode(name, text).map(Bytes::from)
    };
    let now_ms = SystemClock.unix_ms();
    let time = |name: &str| -> Result<Option<u64>, Problem> {
        let told = |error| Problem::malformed(format!("{name}: {error}"));
        call.header(name)?.map(|text| parse_at(text, now_ms).map_err(told)).transpose()
    };
    let priority = call.header("conveyor-priority")?.map(|text| {
        text.parse().map_err(|_| Problem::malformed("Conveyor-Priority is a whole number from 0 to 9"))
    });
    let mut headers = Vec::new();
    for item in items(call, "conveyor-headers")? {
        let (name, value) = item.split_once('=').unwrap_or((&item, ""));
        headers.push((text("conveyor-headers", name)?, decode("conveyor-headers", value)?.into()));
    }
    if !unlisted(kind) && !headers.iter().any(|(name, _): &(String, Bytes)| name == "content-type") {
        headers.push(("content-type".to_owned(), Bytes::copy_from_slice(kind.as_bytes())));
    }
    let tags = items(call, "conveyor-tags")?;
    Ok(Entry {
        key: bytes("conveyor-key")?,
        tags: tags.iter().map(|tag| text("conveyor-tags", tag)).collect::<Result<_, _>>()?,
        headers,
        priority: priority.transpose()?,
        deliver_at_ms: time("conveyor-deliver-at")?,
        expire_at_ms: time("conveyor-expire-at")?,
        unique: bytes("conveyor-unique")?,
        ..Entry::default()
    })
}

/// The parts of a header that is a list.
fn items(call: &Call, name: &str) -> Result<Vec<String>, Problem> {
    let mut found = Vec::new();
    for line in call.headers.get_all(name) {
        let line = std::str::from_utf8(line.as_bytes());
        let line = line.map_err(|_| Problem::malformed(format!("{name} is not UTF-8; encode it with %")))?;
        found.extend(line.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned));
    }
    Ok(found)
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    percent::decode(text.as_bytes())
        .ok_or_else(|| Problem::malformed(format!("{name}: a \"%\" has two hexadecimal digits behind it")))
}

fn text(name: &str, encoded: &str) -> Result<String, Problem> {
    String::from_utf8(decode(name, encoded)?).map_err(|_| Problem::malformed(format!("{name} is not UTF-8")))
}

/// The entries of all lines, as one chunk.
fn lines(body: &[u8], producer: Option<ProducerId>) -> Result<Bytes, Problem> {
    let (mut builder, now_ms) = (ChunkBuilder::new(), SystemClock.unix_ms());
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = index + 1;
        let wrong =
            |kind, told: String| Problem::new(kind, format!("line {number}: {told}")).with("line", number);
        let mut entry = match parse_line(line, now_ms).map_err(|error| wrong("entry", error.to_string()))? {
            Line::Entry(entry) => entry,
            Line::Told(told) => {
                return Err(wrong("entry", format!("this is no entry, but tells of one ({told})")));
            }
        };
        let at = u64::from(builder.entry_count()) + 1;
        entry.producer = producer.map(|producer| (producer, at));
        let before = builder.entry_count();
        builder.push(&entry).map_err(|error| wrong("entry", error.to_string()))?;
        let is_full = builder.raw_bytes() > CHUNK_RAW_BYTES_MAX || before as usize >= CHUNK_ENTRY_COUNT_MAX;
        if is_full && before > 0 {
            let told = format!(
                "a batch holds at most {CHUNK_ENTRY_COUNT_MAX} entries and {CHUNK_RAW_BYTES_MAX} bytes of them; send it in parts"
            );
            return Err(wrong("too-large", told));
        }
    }
    match builder.entry_count() {
        0 => Err(Problem::malformed("the body has no line with an entry")),
        _ => Ok(builder.finish(Codec::Zstd)),
    }
}

fn answer(call: &Call, topic: &TopicName, appended: Appended) -> Result<Response, Problem> {
    let first = crate::base::EntryId {
        topic: crate::base::TopicId::default(),
        peer: appended.peer,
        run: appended.run,
        seq: appended.first_seq,
    };
    let holders: Vec<_> = appended
        .holders
        .iter()
        .map(|holder| {
            let name = call.shared.among.name_of(holder.peer, holder.store).map(|name| name.to_string());
            value!({ "peer": holder.peer.to_string(), "store": holder.store.to_string(), "name": name })
        })
        .collect();
    let body = value!({
        "id": id_word(topic, &first),
        "ids": ids(topic, &appended),
        "count": appended.count,
        "time": show_time(appended.first_time.ms()),
        "time_ms": appended.first_time.ms(),
        "is_repeat": appended.is_repeat,
        "holders": holders,
    });
    let mut response = json(StatusCode::CREATED, &body)?;
    let at = Place { topic, peer: appended.peer, run: appended.run, seq: appended.first_seq }.to_string();
    // Percent-encoded, it is visible ASCII.
    response.headers_mut().extend(HeaderValue::from_str(&at).ok().map(|at| (header::LOCATION, at)));
    Ok(response)
}

/// Bodies of one payload, with room for what HTTP puts around it.
const _: () = assert!(body::JSON_BYTES_MAX < PAYLOAD_BYTES_MAX && LINES_BYTES_MAX > CHUNK_RAW_BYTES_MAX);
