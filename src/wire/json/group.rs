//! A group as JSON.
use crate::base::{EntryId, TopicName};
use crate::wire::group::{GroupInfo, WhenExhausted};
use crate::wire::json::RecordJson;
use crate::wire::when::show_time;
use serde::Serialize;
use std::collections::BTreeMap;

/// A group, as `group info` prints it.
#[derive(Debug, Serialize)]
pub struct GroupJson {
    pub(crate) topic: TopicName,
    pub(crate) group: String,
    pub(crate) paused: bool,
    pub(crate) lease_ms: u64,
    pub(crate) max_deliveries: u32,
    pub(crate) when_exhausted: WhenExhausted,
    pub(crate) retry_delay_ms: u64,
    pub(crate) expire_to: Option<TopicName>,
    pub(crate) since: String,
    pub(crate) start: String,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) leased: u64,
    pub(crate) acked: u64,
    pub(crate) holes: u64,
    pub(crate) exhausted: Vec<String>,
    pub(crate) waiting: u64,
    pub(crate) redelivered: BTreeMap<&'static str, u64>,
}

impl GroupJson {
    /// Everything that is known of a group.
    pub fn new(topic: &TopicName, info: &GroupInfo) -> Self {
        let settings = info.settings.clone();
        let again = info.redelivered;
        Self {
            topic: topic.clone(),
            group: info.name.to_string(),
            paused: settings.is_paused,
            lease_ms: settings.lease_ms,
            max_deliveries: settings.max_deliveries,
            when_exhausted: settings.when_exhausted,
            retry_delay_ms: settings.retry_delay_ms,
            expire_to: settings.expire_to,
            since: show_time(info.since_unix_ms),
            start: info.start.to_string(),
            ready: info.ready_count,
            delayed: info.delayed_count,
            leased: info.leased_count,
            acked: info.acked_count,
            holes: info.hole_count,
            exhausted: info.exhausted.iter().map(|id| id_word(topic, id)).collect(),
            waiting: info.waiting_count,
            redelivered: BTreeMap::from([
                ("expired", again.expired),
                ("nacked", again.nacked),
                ("left", again.left),
                ("restarted", again.restarted),
            ]),
        }
    }
}

/// An entry that was handed out.
#[derive(Serialize)]
pub struct DeliveredJson {
    pub(crate) lease: String,
    pub(crate) lease_ms: u64,
    pub(crate) attempt: u32,
    #[serde(flatten)]
    pub(crate) record: RecordJson,
}

/// An entry's id in full, which means the same at every peer for ever.
pub fn id_word(topic: &TopicName, id: &EntryId) -> String {
    format!("{topic}/{}.{}/{}", id.peer, id.run, id.seq)
}

/// A lease as people pass it on: the entry's id, `@`, and the lease's number in 16 hexadecimal digits.
pub fn lease_word(id: &str, number: u64) -> String {
    format!("{id}@{number:016x}")
}
