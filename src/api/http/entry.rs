//! One entry by its id: its payload as it is, with all else among the headers, or everything as JSON.
use super::call::{Call, json};
use super::problem::Problem;
use crate::api::allowed;
use crate::base::percent::Percent;
use crate::base::{Entry, PeerId, RunId, Seq, TopicName};
use crate::runtime::Found;
use crate::wire::json::{Named, RecordJson};
use crate::wire::outcome::ReadFrom;
use crate::wire::when::show_time;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// What needs no `%` in our headers.
const KEPT: &[u8] = b"/:@+";

/// Where an entry is found for ever, at every peer.
pub(super) struct Place<'a> {
    pub(super) topic: &'a TopicName,
    pub(super) peer: PeerId,
    pub(super) run: RunId,
    pub(super) seq: Seq,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, peer, run, seq } = self;
        let topic = Percent { bytes: topic.as_str().as_bytes(), keep: b"" };
        write!(f, "/v1/topics/{topic}/entries/{peer}.{run}/{seq}")
    }
}

/// Whether a kind of content says nothing worth keeping: none, what programs say where nobody says otherwise.
pub(super) fn unlisted(kind: &str) -> bool {
    kind.is_empty() || kind == "application/x-www-form-urlencoded" || kind == "application/octet-stream"
}

pub(super) async fn serve(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let id = call.entry()?;
    allowed::read(call.rights(), &id.topic, &ReadFrom::Id(id.clone()))?;
    let Found { id: found, signed_run, time, raw } = call.handle().get(&id).await?;
    call.shared.counters.entries_sent.add(1);
    let place = Place { topic: &id.topic, peer: found.peer, run: found.run, seq: found.seq };
    let wants_json = call.header("accept")?.is_some_and(wants_json);
    let tag =
        format!("\"{}.{}/{}{}\"", found.peer, found.run, found.seq, if wants_json { "+json" } else { "" });
    let is_known = call.header("if-none-match")?.is_some_and(|known| {
        known.split(',').map(str::trim).any(|of| of == "*" || of.trim_start_matches("W/") == tag)
    });
    let view = crate::base::EntryView::parse(&raw)
        .map_err(|_| Problem::new("damaged", "the entry cannot be read"))?;
    let (entry, peer_name) = (view.to_entry_within(&raw), call.handle().peer_name(&found.peer));
    let named = Named { topic: &id.topic, id: found, signed_run, peer_name: peer_name.as_ref(), time };
    let mut response = match (is_known, wants_json) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => json(StatusCode::OK, &RecordJson::of(&named, &entry))?,
        (false, false) => payload(&call, &named, &entry)?,
    };
    let headers = response.headers_mut();
    // It never changes; who may see it is another matter.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    headers.append(header::VARY, HeaderValue::from_static("Accept"));
    put(headers, header::ETAG, &tag);
    put(headers, header::CONTENT_LOCATION, &place.to_string());
    Ok(response)
}

fn wants_json(accept: &str) -> bool {
    accept.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == "application/json")
}

/// Adds a header whose value is visible ASCII.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
}

fn payload(call: &Call, named: &Named<'_>, entry: &Entry) -> Result<Response, Problem> {
    let payload = entry.payload.clone();
    let mut response = match call.header("range")?.map(|text| range(text, payload.len())) {
        Some(Wanted::Part(part)) => {
            let told = format!("bytes {}-{}/{}", part.start, part.end - 1, payload.len());
            let mut response = (StatusCode::PARTIAL_CONTENT, Body::from(payload.slice(part))).into_response();
            put(response.headers_mut(), header::CONTENT_RANGE, &told);
            response
        }
        Some(Wanted::Beyond) => return Err(Problem::range(payload.len())),
        Some(Wanted::All) | None => Body::from(payload).into_response(),
    };
    let headers = response.headers_mut();
    describe(headers, named, entry);
    let kind = entry.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value);
    let kind = kind.and_then(|kind| HeaderValue::from_bytes(kind).ok());
    headers
        .insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Whoever appends decides what the payload is: no browser shall run it as a page of ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    Ok(response)
}

/// What is known of an entry beside its payload.
fn describe(headers: &mut HeaderMap, named: &Named<'_>, entry: &Entry) {
    let encoded = |bytes: &[u8]| Percent { bytes, keep: KEPT }.to_string();
    let mut add = |name: &'static str, value: String| {
        if !value.is_empty() {
            put(headers, HeaderName::from_static(name), &value);
        }
    };
    add("conveyor-id", encoded(named.short_id().as_bytes()));
    add("conveyor-time", show_time(named.time.ms()));
    add("conveyor-key", encoded(&entry.key));
    add("conveyor-unique", encoded(&entry.unique));
    let tags: Vec<String> = entry.tags.iter().map(|tag| encoded(tag.as_bytes())).collect();
    add("conveyor-tags", tags.join(","));
    let pair = |(name, value): &(String, Bytes)| format!("{}={}", encoded(name.as_bytes()), encoded(value));
    add("conveyor-headers", entry.headers.iter().map(pair).collect::<Vec<_>>().join(","));
    add("conveyor-priority", entry.priority.map(|priority| priority.to_string()).unwrap_or_default());
    add("conveyor-deliver-at", entry.deliver_at_ms.map(show_time).unwrap_or_default());
    add("conveyor-expire-at", entry.expire_at_ms.map(show_time).unwrap_or_default());
}

/// What part of a payload somebody wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<usize>),
    Beyond,
}

/// One range of bytes; what is no such thing, or several, means all (RFC 9110, section 14.2).
fn range(text: &str, length: usize) -> Wanted {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    match (number(first), number(last)) {
        (Some(first), _) if first >= length => Wanted::Beyond,
        (Some(first), Some(last)) if last >= first => Wanted::Part(first..last.saturating_add(1).min(length)),
        (Some(first), None) if last.trim().is_empty() => Wanted::Part(first..length),
        (None, Some(0)) if first.trim().is_empty() => Wanted::Beyond,
        (None, Some(count)) if first.trim().is_empty() && length > 0 => {
            Wanted::Part(length.saturating_sub(count)..length)
        }
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_part_or_all() {
        let part = |range| Wanted::Part(range);
        assert_eq!(range("bytes=0-4", 10), part(0..5));
        assert_eq!(range("bytes=5-", 10), part(5..10));
        assert_eq!(range("bytes=-3", 10), part(7..10));
        assert_eq!(range("bytes=8-99", 10), part(8..10));
        assert_eq!((range("bytes=10-", 10), range("bytes=-0", 10)), (Wanted::Beyond, Wanted::Beyond));
        for all in ["", "bytes", "bytes=a-b", "bytes=3-1", "bytes=0-1,3-4", "lines=1-2"] {
            assert_eq!(range(all, 10), Wanted::All, "{all}");
        }
    }
}
