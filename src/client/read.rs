//! Asking for entries: one page at a time, or as a stream.
use crate::base::limits::MESSAGE_BYTES_MAX;
use crate::base::{Cursor, TopicName};
use crate::client::error::ClientError;
use crate::client::reader::Reader;
use crate::client::record::{Item, record};
use crate::client::request::{Answer, Client};
use crate::client::source::Wish;
use crate::wire::message::{PageRequest, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::ReadFrom;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// A read under construction; [`Self::page`] or [`Self::stream`] begins it.
#[derive(Debug, Clone)]
pub struct ReadBuilder {
    client: Client,
    topic: TopicName,
    from: ReadFrom,
    key: Option<Bytes>,
    entry_count_max: Option<u64>,
    bytes_max: u64,
    wait: Duration,
    follow: bool,
    skip_damaged: bool,
}

/// Entries of a page when no limit is set.
const PAGE_ENTRY_COUNT: u64 = 1000;
/// Raw bytes of a page when no limit is set.
const PAGE_BYTES: u64 = 1 << 20;

/// Some entries, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Entries, gaps, and logs that could not be served.
    pub items: Vec<Item>,
    /// The position behind them: give it to [`ReadFrom::Cursor`] for the next page, at any peer.
    pub cursor: Cursor,
    /// Whether the peer held nothing more when it answered.
    pub at_end: bool,
}

impl ReadBuilder {
    pub(crate) fn new(client: Client, topic: TopicName) -> Self {
        Self {
            client,
            topic,
            from: ReadFrom::Start,
            key: None,
            entry_count_max: None,
            bytes_max: PAGE_BYTES,
            wait: Duration::ZERO,
            follow: false,
            skip_damaged: false,
        }
    }

    /// Where to begin. Unless set: with the oldest entry that is kept.
    pub fn from(mut self, from: ReadFrom) -> Self {
        self.from = from;
        self
    }

    /// Only entries with this key, at most 1 024 bytes. A page is filtered by the peer, a stream here. A page may end
    /// before the peer has looked at everything, even with nothing in it: go on from its cursor until [`Page::at_end`].
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// At most this many entries. A page has 1 000 unless set, a stream no limit.
    pub fn limit(mut self, entries: u64) -> Self {
        self.entry_count_max = Some(entries);
        self
    }

    /// A page ends once its raw entries have this many bytes; one entry always fits. 1 MiB unless set.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How long a page waits for a first entry when there is none, at most a minute. Not at all unless set.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Whether a stream goes on with what is appended later instead of ending.
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Whether ranges that are damaged on the peer's disk are passed over as gaps. Unless set they block their log.
    pub fn skip_damaged(mut self, skip_damaged: bool) -> Self {
        self.skip_damaged = skip_damaged;
        self
    }

    /// A stream of all entries from here on, verified on arrival: digests of entries, and signatures of their peers.
    pub fn stream(self) -> Reader {
        let wish = Wish {
            topic: self.topic,
            from: self.from,
            follow: self.follow,
            skip_damaged: self.skip_damaged,
            key: self.key,
            entry_count_max: self.entry_count_max.unwrap_or(u64::MAX),
        };
        Reader::new(self.client.connector().clone(), wish)
    }

    /// One page. A connection lost meanwhile is made again; nothing is repeated or missed.
    pub async fn page(self) -> Result<Page, ClientError> {
        let key = self.key.map(|key| key.to_vec());
        if key.as_ref().is_some_and(|key| key.len() > MESSAGE_BYTES_MAX / 2) {
            return Err(crate::wire::message::MessageError::TooLong.into());
        }
        let request = Request::Page(PageRequest {
            topic: self.topic.clone(),
            from: self.from,
            key,
            entry_count_max: self.entry_count_max.unwrap_or(PAGE_ENTRY_COUNT).min(u64::from(u32::MAX)) as u32,
            bytes_max: self.bytes_max,
            wait_ms: (self.wait.as_millis() as u64).min(WAIT_MS_MAX),
            skip_damaged: self.skip_damaged,
        });
        let (mut items, mut names) = (Vec::new(), BTreeMap::new());
        for answer in self.client.ask(&request, Some(&self.topic)).await? {
            match answer {
                Answer::Entry(raw) => {
                    let name = names.get(&raw.id.peer).cloned();
                    items.push(Item::Entry(
                        record(&self.topic, name, &raw).ok_or_else(ClientError::unexpected)?,
                    ));
                }
                Answer::Reply(Reply::Name { peer, name }) => {
                    names.insert(peer, name);
                }
                Answer::Reply(Reply::Gap(gap)) => items.push(Item::Gap(gap)),
                Answer::Reply(Reply::Blocked(blocked)) => items.push(Item::Blocked(blocked)),
                Answer::Reply(Reply::PageEnd { cursor, at_end }) => {
                    return Ok(Page { items, cursor, at_end });
                }
                Answer::Reply(Reply::Failed(error)) => return Err(error.into()),
                Answer::Reply(_) => return Err(ClientError::unexpected()),
            }
        }
        Err(ClientError::unexpected())
    }
}
