//! Tails: Server-Sent Events for as long as the reader likes, each entry's event with the cursor behind it as its id.
//!
//! ```text
//! id: cv1_…           the cursor: Last-Event-ID (or ?cursor=) goes on behind it, at any peer
//! data: {"id":…}      an entry; `event: gap` and `event: blocked` tell of what is not delivered
//!
//! : keep-alive        after a while of silence, so that both ends hear when the other is gone
//! ```
use super::Shared;
use super::call::Call;
use super::page::{Merging, Names};
use super::problem::Problem;
use crate::api::allowed;
use crate::base::{Cursor, TopicName};
use crate::wire::json;
use crate::wire::merge::Merged;
use crate::wire::outcome::{ReadError, ReadFrom};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// After so much silence a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Gathered bytes from which on they are sent.
const GATHERED_BYTES_MAX: usize = 64 << 10;

pub(super) async fn serve(call: Call) -> Result<Response, Problem> {
    call.query.only(&["from", "cursor", "key", "skip_damaged"])?;
    let topic = call.topic()?;
    // A browser that connects again sends the header, at the address it began with.
    let from = match call.header("last-event-id")? {
        Some(word) if !word.is_empty() => ReadFrom::Cursor(word.parse::<Cursor>()?),
        _ => call.query.begin(ReadFrom::Now)?,
    };
    allowed::read(call.rights(), &topic, &from)?;
    let key = call.query.get("key").map(|key| key.as_bytes().to_vec());
    let merging = Merging::begin(call.handle(), &topic, from, key, call.query.flag("skip_damaged")?).await?;
    let tail = Tail {
        counted: Counted::new(call.shared.clone()),
        topic,
        merging,
        names: Names::default(),
        ends: false,
    };
    // The position it begins at, so that whoever is cut off before the first entry resumes there too.
    let begin = format!("retry: 1000\nid: {}\nevent: begin\ndata: {{}}\n\n", tail.merging.cursor());
    let events = Events(Some(Box::pin(async move { Some((Bytes::from(begin), tail)) })));
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Counts as a tail until it is dropped.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.counters.tails.add(1);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.tails.sub(1);
    }
}

struct Tail {
    counted: Counted,
    topic: TopicName,
    merging: Merging,
    names: Names,
    /// Whether nothing follows.
    ends: bool,
}

impl Tail {
    /// The next events, once there are any, and what brings those behind; none at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ends {
            return None;
        }
        let shared = self.counted.0.clone();
        let mut out = String::new();
        loop {
            while out.len() < GATHERED_BYTES_MAX
                && let Some(merged) = self.merging.pop()
            {
                self.put(&mut out, merged);
            }
            if out.len() >= GATHERED_BYTES_MAX {
                return Some((out.into(), self));
            }
            match self.merging.take().await {
                Ok(true) => continue,
                Ok(false) if !out.is_empty() => return Some((out.into(), self)),
                Ok(false) => {}
                // It is asked for again as if something had come.
                Err(ReadError::Io { .. }) if out.is_empty() => {}
                Err(ReadError::Io { .. }) => return Some((out.into(), self)),
                Err(error) => {
                    event(&mut out, "problem", None, &Problem::from(error).to_json());
                    self.ends = true;
                    return Some((out.into(), self));
                }
            }
            tokio::select! {
                biased;
                () = shared.stopping() => return None,
                () = self.merging.changed() => {}
                () = tokio::time::sleep(KEEP_ALIVE) => return Some((": keep-alive\n\n".into(), self)),
            }
        }
    }

    fn put(&mut self, out: &mut String, merged: Merged) {
        let cursor = self.merging.cursor();
        match merged {
            Merged::Gap(gap) => event(out, "gap", Some(cursor), &json::gap(&gap)),
            Merged::Blocked(blocked) => event(out, "blocked", None, &json::blocked(&blocked)),
            Merged::Entry(raw) => {
                let shared = &self.counted.0;
                shared.counters.entries_sent.add(1);
                if let Some(record) = self.names.record(shared.handle(), &self.topic, &raw) {
                    event(out, "", Some(cursor), &record);
                }
            }
        }
    }
}

/// Writes one event. JSON has no line ends, so its data is one line.
fn event(out: &mut String, name: &str, id: Option<String>, data: &impl Serialize) {
    let Ok(data) = serde_json::to_string(data) else { return };
    for (field, value) in [("id", id.as_deref().unwrap_or_default()), ("event", name), ("data", &data)] {
        if !value.is_empty() {
            out.push_str(field);
            out.push_str(": ");
            out.push_str(value);
            out.push('\n');
        }
    }
    out.push('\n');
}

type Coming = Pin<Box<dyn Future<Output = Option<(Bytes, Tail)>> + Send>>;

/// The body: what [`Tail::next`] brings, one after the other.
struct Events(Option<Coming>);

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(coming) = &mut self.0 else { return Poll::Ready(None) };
        let came = ready!(coming.as_mut().poll(context));
        self.0 = None;
        let Some((bytes, tail)) = came else { return Poll::Ready(None) };
        self.0 = Some(Box::pin(tail.next()));
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_lines_and_an_empty_one() {
        let mut out = String::new();
        event(&mut out, "", Some("cv1_x".to_owned()), &serde_json::json!({ "payload": "a\nb" }));
        event(&mut out, "gap", None, &1);
        assert_eq!(out, "id: cv1_x\ndata: {\"payload\":\"a\\nb\"}\n\nevent: gap\ndata: 1\n\n");
    }
}
