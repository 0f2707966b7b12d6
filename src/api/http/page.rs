//! Pages: entries as JSON, filtered and counted, with the cursor behind the last one.
use super::call::{Call, json};
use super::problem::Problem;
use crate::api::allowed;
use crate::base::percent::Percent;
use crate::base::{EntryView, PeerId, PeerName, TopicName};
use crate::runtime::{Handle, ReadItem, TopicReader};
use crate::wire::contents::{Contents, RawEntry};
use crate::wire::json::{self as told, Named, RecordJson};
use crate::wire::merge::{Merged, Merger};
use crate::wire::outcome::{ReadError, ReadFrom};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json as value};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of batches taken from the log at once.
const TAKE_BYTES: usize = 256 << 10;
/// Bytes of batches that a page with a key looks through at most.
const SCAN_BYTES_MAX: usize = 16 << 20;
/// How long a page with a key may look for entries where it was given no longer to wait.
const SCAN_TIME_MIN: Duration = Duration::from_secs(1);
/// Raw bytes of the entries of one page from which on no more are added.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Entries of a page where nobody says how many.
const LIMIT_DEFAULT: u32 = 100;
/// Entries of a page at most.
const LIMIT_MAX: u32 = 10_000;

/// What a topic holds from a place on, in one order.
pub(super) struct Merging {
    reader: TopicReader,
    merger: Merger,
    scanned_bytes: usize,
    key: Option<Vec<u8>>,
}

impl Merging {
    pub(super) async fn begin(
        handle: &Handle,
        topic: &TopicName,
        from: ReadFrom,
        key: Option<Vec<u8>>,
        skip_damaged: bool,
    ) -> Result<Self, ReadError> {
        let reader = handle.reader(topic, from, skip_damaged).await?;
        let merger = Merger::new(reader.cursor());
        Ok(Self { reader, merger, scanned_bytes: 0, key })
    }

    /// The next that may go; none where more must be taken first.
    pub(super) fn pop(&mut self) -> Option<Merged> {
        loop {
            match self.merger.pop()? {
                Merged::Entry(entry) if !self.is_wanted(&entry) => {}
                merged => return Some(merged),
            }
        }
    }

    fn is_wanted(&self, entry: &RawEntry) -> bool {
        let Some(key) = &self.key else { return true };
        EntryView::parse(&entry.raw).is_ok_and(|view| view.key == key)
    }

    /// Takes more; false where nothing more is held now.
    pub(super) async fn take(&mut self) -> Result<bool, ReadError> {
        let items = self.reader.next(TAKE_BYTES).await?;
        if items.is_empty() {
            let waits = !self.merger.is_empty();
            self.merger.release_all();
            return Ok(waits);
        }
        for item in items {
            match item {
                ReadItem::Batch { batch, from, release_until } => {
                    self.scanned_bytes += batch.cost_bytes();
                    // The log hands out what it checked; what fails here is damage it will find by itself.
                    let reason =
                        |error| ReadError::Io { reason: format!("a batch cannot be taken apart: {error}") };
                    self.merger.push_batch(Contents::open(&batch).map_err(reason)?, from, release_until);
                }
                ReadItem::Gap(gap) => self.merger.push_gap(gap),
                ReadItem::Blocked(blocked) => self.merger.push_blocked(blocked),
            }
        }
        Ok(true)
    }

    pub(super) async fn changed(&mut self) {
        self.reader.changed().await;
    }

    /// The position behind what was handed out.
    pub(super) fn cursor(&self) -> String {
        self.merger.cursor().to_string()
    }
}

/// Names of peers, each looked up once.
#[derive(Default)]
pub(super) struct Names(BTreeMap<PeerId, Option<PeerName>>);

impl Names {
    /// An entry as JSON.
    pub(super) fn record(
        &mut self,
        handle: &Handle,
        topic: &TopicName,
        raw: &RawEntry,
    ) -> Option<RecordJson> {
        let RawEntry { id, signed_run, time, .. } = *raw;
        let name = self.0.entry(id.peer).or_insert_with(|| handle.peer_name(&id.peer));
        let named = Named { topic, id, signed_run, peer_name: name.as_ref(), time };
        raw.entry().ok().map(|entry| RecordJson::of(&named, &entry))
    }
}

#[derive(Default)]
struct Page {
    entries: Vec<RecordJson>,
    gaps: Vec<Value>,
    blocked: Vec<Value>,
    bytes: usize,
}

impl Page {
    fn has_any(&self) -> bool {
        !self.entries.is_empty() || !self.gaps.is_empty() || !self.blocked.is_empty()
    }
}

pub(super) async fn serve(call: Call) -> Result<Response, Problem> {
    call.query.only(&["from", "cursor", "limit", "wait", "key", "skip_damaged"])?;
    let (topic, handle) = (call.topic()?, call.handle());
    let from = call.query.begin(ReadFrom::Start)?;
    let (wait, limit) = (call.query.wait()?, call.query.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?);
    allowed::read(call.rights(), &topic, &from)?;
    if wait.is_zero() {
        if handle.topic(&topic).is_none() && !topic.is_system() {
            return Err(Problem::topic_unknown(&topic));
        }
        handle.check_not_ahead(&from).await?;
    }
    let key = call.query.get("key").map(|key| key.as_bytes().to_vec());
    let merging = Merging::begin(handle, &topic, from, key, call.query.flag("skip_damaged")?).await?;
    fill(&call, &topic, merging, wait, limit as usize).await
}

async fn fill(
    call: &Call,
    topic: &TopicName,
    mut merging: Merging,
    wait: Duration,
    limit: usize,
) -> Result<Response, Problem> {
    let (mut page, mut names, began) = (Page::default(), Names::default(), Instant::now());
    let (until, scan_until) = (began + wait, began + wait.max(SCAN_TIME_MIN));
    loop {
        let is_full = hand_out(call, topic, &mut merging, &mut page, &mut names, limit);
        let is_over = || merging.scanned_bytes >= SCAN_BYTES_MAX || Instant::now() >= scan_until;
        if is_full || (merging.key.is_some() && merging.scanned_bytes > 0 && is_over()) {
            return end(topic, page, &merging, false);
        }
        if merging.take().await? {
            continue;
        }
        if page.has_any() || Instant::now() >= until {
            return end(topic, page, &merging, true);
        }
        tokio::select! {
            biased;
            () = call.shared.stopping() => return Err(ReadError::Stopped.into()),
            // Out of time: one last look, then the page ends.
            _ = timeout_at(until, merging.changed()) => {}
        }
    }
}

/// Adds what may go. True when the page is full.
fn hand_out(
    call: &Call,
    topic: &TopicName,
    merging: &mut Merging,
    page: &mut Page,
    names: &mut Names,
    limit: usize,
) -> bool {
    loop {
        let is_large = !page.entries.is_empty() && page.bytes >= PAGE_BYTES_MAX;
        if page.entries.len() >= limit || is_large {
            return true;
        }
        match merging.pop() {
            None => return false,
            Some(Merged::Gap(gap)) => page.gaps.push(value!(told::gap(&gap))),
            Some(Merged::Blocked(blocked)) => page.blocked.push(value!(told::blocked(&blocked))),
            Some(Merged::Entry(raw)) => {
                page.bytes += raw.raw.len();
                page.entries.extend(names.record(call.handle(), topic, &raw));
                call.shared.counters.entries_sent.add(1);
            }
        }
    }
}

fn end(topic: &TopicName, page: Page, merging: &Merging, at_end: bool) -> Result<Response, Problem> {
    let cursor = merging.cursor();
    let Page { entries, gaps, blocked, .. } = page;
    let body = value!({
        "entries": entries,
        "gaps": gaps,
        "blocked": blocked,
        "cursor": cursor,
        "at_end": at_end,
    });
    let mut response = json(StatusCode::OK, &body)?;
    let topic = Percent { bytes: topic.as_str().as_bytes(), keep: b"" };
    let link = format!("</v1/topics/{topic}/entries?cursor={cursor}>; rel=\"next\"");
    response.headers_mut().extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
    Ok(response)
}
