//! Changes of groups that somebody asks for: each is decided by what is known, written, and answered when that is durable. Of one
//! group there is one at a time, so that the next is decided by what the one before made of it.
use super::*;
use crate::wire::group::{GROUP_COUNT_MAX, GroupSettings, LEASE_MS_MAX, RETRY_DELAY_MS_MAX};

impl Engine {
    /// Begins with the next change of a group that was asked for.
    pub(super) fn change(&mut self, now: Now, name: &GroupName, outputs: &mut Vec<Output>) {
        while let Some((ticket, ask)) = self.changes.get(name).and_then(|queue| queue.front()) {
            let ticket = *ticket;
            let decided = decide(&self.fold, &self.config, name, ask);
            let Self { config, desk, net, is_stopped, .. } = self;
            let mut ctx = Ctx { now, config, desk, net, is_stopped: *is_stopped, outputs };
            match decided {
                Ok(Some(write)) => {
                    ctx.append(write, Purpose::Change(ticket));
                    return;
                }
                Ok(None) => ctx.answer(ticket, Ok(GroupAnswer::Done { is_changed: false })),
                Err(error) => ctx.answer(ticket, Err(error)),
            }
            if let Some(queue) = self.changes.get_mut(name) {
                queue.pop_front();
            }
        }
        self.changes.remove(name);
    }

    pub(super) fn changed(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: Option<&GroupName>,
        error: Option<AppendError>,
        outputs: &mut Vec<Output>,
    ) {
        if self.desk.close(ticket).is_some() {
            let answer = match error {
                None => Ok(GroupAnswer::Done { is_changed: true }),
                Some(error) => Err(error.into()),
            };
            outputs.push(Output::Answer { ticket, answer });
        }
        if let Some(name) = name {
            if let Some(queue) = self.changes.get_mut(name) {
                queue.pop_front();
            }
            self.change(now, name, outputs);
        }
    }
}

/// What is to be written for a change that was asked for; `None` when nothing would be different.
fn decide(
    fold: &Fold,
    config: &GroupConfig,
    name: &GroupName,
    ask: &Ask,
) -> Result<Option<GroupWrite>, GroupError> {
    let (epochs, set) = fold.known(name);
    let (group, known) = (name.clone(), fold.group(name));
    let unknown = || GroupError::Unknown { topic: config.topic.clone(), group: name.clone() };
    let write = match ask {
        Ask::Create { .. } if known.is_some() => return Ok(None),
        Ask::Create { .. } if fold.names().count() >= config.group_count_max => {
            return Err(GroupError::TooMany { max: config.group_count_max });
        }
        Ask::Create { start, settings } => {
            let (start, settings) = (start.clone(), settings.clone());
            GroupWrite::Create { group, start, settings, replaces: set }
        }
        Ask::Set(settings) if known.ok_or_else(unknown)?.settings() == *settings => return Ok(None),
        Ask::Set(settings) => GroupWrite::Set { group, settings: settings.clone(), replaces: set },
        Ask::Rewind { start } => {
            known.ok_or_else(unknown)?;
            GroupWrite::Rewind { group, start: start.clone(), replaces: epochs }
        }
        _ => {
            known.ok_or_else(unknown)?;
            let replaces = epochs.iter().chain(set.iter().filter(|id| !epochs.contains(id))).copied();
            GroupWrite::Delete { group, replaces: replaces.collect() }
        }
    };
    Ok(Some(write))
}

/// Checks the numbers of a request.
pub(super) fn check(ask: &Ask) -> Result<(), GroupError> {
    let over = |what: &str, max: u64| Err(GroupError::Limit { what: format!("{what}: at most {max}") });
    let settings =
        |settings: &GroupSettings| check_times(Some(settings.lease_ms), Some(settings.retry_delay_ms));
    match ask {
        Ask::Create { settings: set, .. } | Ask::Set(set) => settings(set),
        Ask::Next { count_max, .. } if *count_max as usize > GROUP_COUNT_MAX => {
            over("entries of one request", GROUP_COUNT_MAX as u64)
        }
        Ask::Next { acked: ids, .. } | Ask::Ack(ids) if ids.len() > GROUP_COUNT_MAX => {
            over("ids of one request", GROUP_COUNT_MAX as u64)
        }
        Ask::Nack { leases, .. } | Ask::Extend { leases, .. } if leases.len() > GROUP_COUNT_MAX => {
            over("leases of one request", GROUP_COUNT_MAX as u64)
        }
        Ask::Next { lease_ms, .. } | Ask::Extend { lease_ms, .. } => check_times(*lease_ms, None),
        Ask::Nack { delay_ms, .. } => check_times(None, *delay_ms),
        Ask::Rewind { .. } | Ask::Delete | Ask::Info | Ask::Ack(_) => Ok(()),
    }
}

fn check_times(lease_ms: Option<u64>, delay_ms: Option<u64>) -> Result<(), GroupError> {
    let limit = |what: String| Err(GroupError::Limit { what });
    match (lease_ms, delay_ms) {
        (Some(0), _) => limit("a lease lasts 1 ms at least".to_owned()),
        (Some(ms), _) if ms > LEASE_MS_MAX => limit(format!("a lease lasts at most {LEASE_MS_MAX} ms")),
        (_, Some(ms)) if ms > RETRY_DELAY_MS_MAX => {
            limit(format!("what is given back waits at most {RETRY_DELAY_MS_MAX} ms"))
        }
        _ => Ok(()),
    }
}
