//! From what consumers write to what the engine knows: places are looked up, ids are checked, limits kept.
use crate::base::{Cursor, EntryId, NameError, TopicId, TopicName};
use crate::group::io::{Ask, Consumer};
use crate::runtime::handle::Handle;
use crate::wire::group::{
    GROUP_BYTES_MAX, GROUP_COUNT_MAX, GroupError, GroupRequest, LEASE_MS_MAX, Lease, RETRY_DELAY_MS_MAX,
};
use crate::wire::message::WAIT_MS_MAX;
use crate::wire::outcome::{ReadError, ReadFrom};

pub(super) async fn resolve(
    handle: &Handle,
    topic: &TopicName,
    consumer: Consumer,
    request: GroupRequest,
) -> Result<Ask, GroupError> {
    let checks = Checks { handle, topic: TopicId::of(handle.about().cluster, topic.as_str()) };
    Ok(match request {
        GroupRequest::Create { from, settings } => {
            within(settings.lease_ms, LEASE_MS_MAX, "a lease")?;
            within(settings.retry_delay_ms, RETRY_DELAY_MS_MAX, "a delay")?;
            Ask::Create { start: place(handle, topic, from).await?, settings }
        }
        GroupRequest::Set { settings } => {
            within(settings.lease_ms, LEASE_MS_MAX, "a lease")?;
            within(settings.retry_delay_ms, RETRY_DELAY_MS_MAX, "a delay")?;
            Ask::Set(settings)
        }
        GroupRequest::Rewind { to } => Ask::Rewind { start: place(handle, topic, to).await? },
        GroupRequest::Delete => Ask::Delete,
        GroupRequest::Info => Ask::Info,
        GroupRequest::Next { count_max, bytes_max, lease_ms, wait_ms, acked } => {
            checks.ids(&acked)?;
            count(count_max as usize)?;
            within(lease_ms.unwrap_or(1), LEASE_MS_MAX, "a lease")?;
            let (wait_ms, bytes_max) = (wait_ms.min(WAIT_MS_MAX), bytes_max.min(GROUP_BYTES_MAX));
            Ask::Next { consumer, count_max, bytes_max, lease_ms, wait_ms, acked }
        }
        GroupRequest::Ack { ids } => {
            checks.ids(&ids)?;
            Ask::Ack(ids)
        }
        GroupRequest::Nack { leases, delay_ms, counts } => {
            checks.leases(&leases)?;
            if delay_ms.is_some_and(|delay_ms| delay_ms > RETRY_DELAY_MS_MAX) {
                return Err(over("a delay", RETRY_DELAY_MS_MAX));
            }
            Ask::Nack { leases, delay_ms, counts }
        }
        GroupRequest::Extend { leases, lease_ms } => {
            checks.leases(&leases)?;
            within(lease_ms.unwrap_or(1), LEASE_MS_MAX, "a lease")?;
            Ask::Extend { leases, lease_ms }
        }
    })
}

/// The position that somebody means.
async fn place(handle: &Handle, topic: &TopicName, from: ReadFrom) -> Result<Cursor, GroupError> {
    if matches!(&from, ReadFrom::Id(id) if id.topic != *topic || !id.is_well_formed()) {
        return Err(NameError::Entry.into());
    }
    if let ReadFrom::Cursor(cursor) = &from {
        cursor.check_positions().map_err(ReadError::from)?;
    }
    handle.check_not_ahead(&from).await?;
    Ok(handle.reader(topic, from, false).await?.cursor())
}

fn over(what: &str, max: u64) -> GroupError {
    GroupError::Limit { what: format!("{what} has at most {max} ms") }
}

fn within(ms: u64, max: u64, what: &str) -> Result<(), GroupError> {
    match ms {
        0 if what == "a lease" => Err(GroupError::Limit { what: "a lease has at least 1 ms".to_owned() }),
        ms if ms > max => Err(over(what, max)),
        _ => Ok(()),
    }
}

fn count(count: usize) -> Result<(), GroupError> {
    let what = || format!("at most {GROUP_COUNT_MAX} entries in one request");
    if count > GROUP_COUNT_MAX { Err(GroupError::Limit { what: what() }) } else { Ok(()) }
}

struct Checks<'a> {
    handle: &'a Handle,
    topic: TopicId,
}

impl Checks<'_> {
    /// That these may be entries of the topic: of runs that are known here. Their numbers may be ahead of this peer.
    fn ids(&self, ids: &[EntryId]) -> Result<(), GroupError> {
        count(ids.len())?;
        let mut known = None;
        for id in ids {
            let run = (id.topic, id.peer, id.run);
            if known == Some(run) {
                continue;
            }
            let is_known =
                || self.handle.store().log(&id.log()).is_some_and(|log| log.look().run(id.run).is_some());
            if id.topic != self.topic || !is_known() {
                return Err(GroupError::IdUnknown { id: *id });
            }
            known = Some(run);
        }
        Ok(())
    }

    fn leases(&self, leases: &[Lease]) -> Result<(), GroupError> {
        count(leases.len())?;
        match leases.iter().find(|lease| lease.id.topic != self.topic) {
            Some(lease) => Err(GroupError::IdUnknown { id: lease.id }),
            None => Ok(()),
        }
    }
}
