//! What a client's rights allow, for every protocol the same.
use crate::base::{NameError, TopicName};
use crate::identity::role::Rights;
use crate::wire::group::{GroupError, GroupRequest, WhenExhausted};
use crate::wire::outcome::{AppendError, ReadError, ReadFrom, TopicChange, TopicError};

/// Why a client may not append to a topic, if so.
pub(super) fn append(rights: &Rights, topic: &TopicName) -> Result<(), AppendError> {
    if topic.is_system() {
        return Err(NameError::TopicReserved.into());
    }
    match rights.allows_write(topic) {
        true => Ok(()),
        false => Err(AppendError::Forbidden { topic: topic.clone() }),
    }
}

/// Whether a client may read a topic from there. What arrived as a value is checked as if it had been parsed.
pub(super) fn read(rights: &Rights, topic: &TopicName, from: &ReadFrom) -> Result<(), ReadError> {
    if topic.is_system() && !rights.admin {
        return Err(NameError::TopicReserved.into());
    }
    if !rights.allows_read(topic) {
        return Err(ReadError::Forbidden { topic: topic.clone() });
    }
    match from {
        ReadFrom::Cursor(cursor) => Ok(cursor.check_positions()?),
        ReadFrom::Id(id) if id.topic != *topic || !id.is_well_formed() => Err(NameError::Entry.into()),
        _ => Ok(()),
    }
}

/// Whether a client may know of a topic.
pub(super) fn sees(rights: &Rights, topic: &TopicName) -> bool {
    let is_own = topic.is_system() && rights.allows_peer_admin();
    is_own || rights.allows_read(topic) || rights.allows_write(topic) || rights.allows_admin(topic)
}

/// Whether a client may change the catalog so.
pub(super) fn change(rights: &Rights, change: &TopicChange) -> Result<(), TopicError> {
    let topic = change.topic();
    // Nobody changes Conveyor's own topics, but what is damaged of them can be given up too.
    let is_allowed = match (topic.is_system(), change) {
        (false, _) => rights.allows_admin(topic),
        (true, TopicChange::Lost { .. }) => rights.allows_peer_admin(),
        (true, _) => return Err(NameError::TopicReserved.into()),
    };
    if is_allowed { Ok(()) } else { Err(TopicError::Forbidden { topic: topic.clone() }) }
}

/// Whether a client may ask that of a group. Reading rights are enough to make a group and to work with it; to rewind it,
/// which all its consumers feel, one must be allowed to write; to change or delete it, to administer.
pub(super) fn group(rights: &Rights, topic: &TopicName, request: &GroupRequest) -> Result<(), GroupError> {
    if topic.is_system() {
        return Err(NameError::TopicReserved.into());
    }
    // The peer itself appends dead letters and what expired: whoever says where to must be allowed to write there.
    if let GroupRequest::Create { settings, .. } | GroupRequest::Set { settings } = request {
        let dead = match &settings.when_exhausted {
            WhenExhausted::Topic(to) => Some(to),
            WhenExhausted::Keep | WhenExhausted::Drop => None,
        };
        for to in dead.into_iter().chain(&settings.expire_to) {
            if to.is_system() {
                return Err(NameError::TopicReserved.into());
            }
            if !rights.allows_write(to) {
                return Err(GroupError::Forbidden { topic: to.clone() });
            }
        }
    }
    let is_allowed = match request {
        GroupRequest::Rewind { .. } => rights.allows_write(topic) || rights.allows_admin(topic),
        GroupRequest::Set { .. } | GroupRequest::Delete => rights.allows_admin(topic),
        _ => rights.allows_read(topic),
    };
    if is_allowed { Ok(()) } else { Err(GroupError::Forbidden { topic: topic.clone() }) }
}
