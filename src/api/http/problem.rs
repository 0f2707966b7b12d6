//! What went wrong, as RFC 9457 has it: one table of kinds, and from each typed error to its kind.
use crate::base::{CursorError, DurabilityError, EntryError, NameError, TopicName};
use crate::identity::token::TokenError;
use crate::wire::group::{GroupError, LeaseError};
use crate::wire::json::id_word;
use crate::wire::outcome::{AppendError, Appended, ReadError, TopicError};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Kind, status, title. docs/http.md has the same table.
pub const KINDS: &[(&str, u16, &str)] = &[
    ("malformed", 400, "The request cannot be read"),
    ("name", 400, "This is no legal name or id"),
    ("cursor", 400, "The cursor cannot be used here"),
    ("limit", 400, "A number is over its limit"),
    ("unauthorized", 401, "A token is needed"),
    ("forbidden", 403, "The token does not allow it"),
    ("closed", 403, "The interface is not served at this address"),
    ("no-such-address", 404, "There is nothing at this address"),
    ("topic-unknown", 404, "The topic does not exist here"),
    ("group-unknown", 404, "The topic has no such group here"),
    ("entry-unknown", 404, "No log here fits the id"),
    ("entry-ahead", 404, "The entry is not here yet"),
    ("method", 405, "The method is not for this address"),
    ("slow", 408, "The body comes too slowly"),
    ("ambiguous", 409, "The id fits several entries"),
    ("forgotten", 409, "Too long ago to tell whether it was appended"),
    ("lease", 409, "The lease is not, or no more"),
    ("gone", 410, "The entry is not kept any more"),
    ("exists", 412, "It exists already"),
    ("too-large", 413, "The body is larger than it may be"),
    ("media-type", 415, "A body of this kind is not taken here"),
    ("range", 416, "The range lies outside the payload"),
    ("entry", 422, "An entry cannot be appended as it is"),
    ("repeat", 422, "The key was used for something else"),
    ("removed", 503, "The peer was removed from the cluster"),
    ("damaged", 503, "The entry is damaged at this peer"),
    ("unreachable", 503, "The peer that handed it out cannot be reached"),
    ("busy", 503, "Too much is under way at this peer"),
    ("stopped", 503, "The peer is stopping"),
    ("disk", 503, "The disk could not be read"),
    ("not-confirmed", 504, "Stored, and not confirmed by as many peers as asked"),
    ("disk-full", 507, "The disk is full down to its reserve"),
];

/// The scheme of the kinds of problems.
const TYPE_PREFIX: &str = "conveyor:problem/";

/// What went wrong with a request. Unless its kind says otherwise nothing was changed.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: &'static str,
    detail: String,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// One of a kind of the table, in words.
    pub fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), more: Map::new(), headers: Vec::new() }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new("malformed", detail)
    }

    /// With a field of its own.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    pub(super) fn unauthorized(detail: impl Into<String>, error: Option<&str>) -> Self {
        let detail = detail.into();
        let challenge = match error {
            Some(error) => format!("Bearer realm=\"conveyor\", error=\"{error}\""),
            None => "Bearer realm=\"conveyor\"".to_owned(),
        };
        Self::new("unauthorized", detail).header(header::WWW_AUTHENTICATE, &challenge)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        let challenge = "Bearer realm=\"conveyor\", error=\"insufficient_scope\"";
        Self::new("forbidden", detail).header(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new("too-large", format!("a body here has at most {bytes_max} bytes"))
            .with("bytes_max", bytes_max)
            .header(header::CONNECTION, "close")
    }

    pub(super) fn slow() -> Self {
        Self::new("slow", "the body came too slowly; nothing of it was used")
            .header(header::CONNECTION, "close")
    }

    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::new("busy", detail).header(header::RETRY_AFTER, "1")
    }

    pub(super) fn stopped(detail: impl Into<String>) -> Self {
        Self::new("stopped", detail).header(header::RETRY_AFTER, "1")
    }

    pub(super) fn range(bytes: usize) -> Self {
        Self::new("range", format!("the payload has {bytes} bytes"))
            .header(header::CONTENT_RANGE, &format!("bytes */{bytes}"))
    }

    pub(super) fn topic_unknown(topic: &TopicName) -> Self {
        Self::new("topic-unknown", format!("topic {topic:?} does not exist here"))
            .with("topic", topic.as_str())
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        let of = KINDS.iter().find(|(kind, ..)| *kind == self.kind);
        of.and_then(|(_, status, _)| StatusCode::from_u16(*status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether rights are wanting.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self.kind, "forbidden" | "unauthorized")
    }

    /// As the body has it.
    pub(super) fn to_json(&self) -> Value {
        let title = KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("", |(.., title)| title);
        let mut body = json!({
            "type": format!("{TYPE_PREFIX}{}", self.kind),
            "title": title,
            "status": self.status().as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(fields) = &mut body {
            fields.extend(self.more.clone());
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)).collect::<Vec<_>>());
        response
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TopicReserved => Self::forbidden(error.to_string()),
            error => Self::new("name", error.to_string()),
        }
    }
}

impl From<CursorError> for Problem {
    fn from(error: CursorError) -> Self {
        Self::new("cursor", error.to_string())
    }
}

impl From<DurabilityError> for Problem {
    fn from(error: DurabilityError) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        Self::new("entry", error.to_string())
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::unauthorized(error.to_string(), Some("invalid_token"))
    }
}

fn disk_full(detail: String, free_bytes: u64, reserve_bytes: u64) -> Problem {
    Problem::new("disk-full", detail).with("free_bytes", free_bytes).with("reserve_bytes", reserve_bytes)
}

impl Problem {
    /// Why entries were not appended to `topic`, or not confirmed.
    pub(super) fn of_append(topic: &TopicName, error: AppendError) -> Self {
        let detail = error.to_string();
        match error {
            AppendError::Forbidden { .. } => {
                Self::forbidden(format!("this token does not allow appending to {topic:?}"))
            }
            AppendError::Name(error) => error.into(),
            AppendError::TopicUnknown { topic } => Self::topic_unknown(&topic),
            AppendError::Chunk(_) | AppendError::Kind | AppendError::DeliverAt { .. } => {
                Self::new("entry", detail)
            }
            AppendError::Replicas { asked, available, appended } => Self::new("not-confirmed", detail)
                .with("asked", asked)
                .with("available", available)
                .with("ids", ids(topic, &appended)),
            AppendError::DiskFull { free_bytes, reserve_bytes } => {
                disk_full(detail, free_bytes, reserve_bytes)
            }
            AppendError::ProducerForgotten { .. } => Self::new(
                "forgotten",
                "this key was used so long ago that it cannot be told what with; read the topic to find out",
            ),
            AppendError::ProducerMixed { .. } => Self::new(
                "repeat",
                "this key came with another number of entries before; retries are sent unchanged",
            ),
            AppendError::Stopped { .. } => Self::stopped(detail),
            AppendError::Removed => Self::new("removed", detail),
        }
    }
}

/// The lasting ids of what was appended.
pub(super) fn ids(topic: &TopicName, appended: &Appended) -> Vec<Value> {
    let topic_id = crate::base::TopicId::default();
    let id = |index| crate::base::EntryId {
        topic: topic_id,
        peer: appended.peer,
        run: appended.run,
        seq: appended.first_seq.after(u64::from(index)),
    };
    (0..appended.count).map(|index| id_word(topic, &id(index)).into()).collect()
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::Forbidden { topic } => {
                Self::forbidden(format!("this token does not allow reading {topic:?}"))
            }
            ReadError::Name(error) => error.into(),
            ReadError::TopicUnknown { topic } => Self::topic_unknown(&topic),
            ReadError::Cursor(error) => error.into(),
            ReadError::IdAhead { until, .. } => Self::new("entry-ahead", detail).with("next_seq", until.0),
            ReadError::IdUnknown { .. } => Self::new("entry-unknown", detail),
            ReadError::IdTrimmed { start, .. } => {
                Self::new("gone", detail).with("reason", "trimmed").with("first_seq", start.0)
            }
            ReadError::IdLost { .. } => Self::new("gone", detail).with("reason", "lost"),
            ReadError::IdAmbiguous { id, fits } => {
                let topic = id.rsplitn(3, '/').last().and_then(|topic| TopicName::system(topic).ok());
                let fits: Vec<Value> =
                    topic.iter().flat_map(|topic| fits.iter().map(|id| id_word(topic, id).into())).collect();
                Self::new("ambiguous", detail).with("fits", fits)
            }
            ReadError::Forked { branches, .. } => {
                let fits: Vec<Value> = branches.iter().map(|id| id.to_string().into()).collect();
                Self::new("ambiguous", detail).with("fits", fits)
            }
            ReadError::Damaged { .. } => Self::new("damaged", detail),
            ReadError::Io { .. } => Self::new("disk", detail).header(header::RETRY_AFTER, "5"),
            ReadError::Stopped => Self::stopped(detail),
        }
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        let detail = error.to_string();
        match error {
            TopicError::Forbidden { topic } => {
                Self::forbidden(format!("this token does not allow changing {topic:?}"))
            }
            TopicError::Name(error) => error.into(),
            TopicError::Exists { topic } => Self::new("exists", format!("topic {topic:?} exists already")),
            TopicError::Unknown { topic } => Self::topic_unknown(&topic),
            TopicError::Stopped { .. } => Self::stopped(detail),
            TopicError::NotDamaged { .. } => Self::malformed(detail),
            TopicError::DiskFull { free_bytes, reserve_bytes } => {
                disk_full(detail, free_bytes, reserve_bytes)
            }
            TopicError::Removed => Self::new("removed", detail),
        }
    }
}

impl Problem {
    /// Why a request to a group of `topic` was not carried out.
    pub(super) fn of_group(topic: &TopicName, error: GroupError) -> Self {
        let detail = error.to_string();
        match error {
            GroupError::Forbidden { topic } => {
                Self::forbidden(format!("this token does not allow that with groups of {topic:?}"))
            }
            GroupError::Name(error) => error.into(),
            GroupError::Unknown { topic, group } => {
                Self::new("group-unknown", format!("topic {topic:?} has no group {:?} here", group.as_str()))
            }
            GroupError::TooMany { max } => Self::new("limit", detail).with("max", max),
            GroupError::Place(error) => error.into(),
            GroupError::Append(error) => Self::of_append(topic, error),
            GroupError::Limit { .. } => Self::new("limit", detail),
            GroupError::Busy => Self::busy(detail),
            GroupError::IdUnknown { id } => {
                Self::new("entry-unknown", detail).with("id", id_word(topic, &id))
            }
            GroupError::Stopped => Self::stopped(detail),
        }
    }

    /// Why a lease was not given back or extended.
    pub(super) fn of_lease(error: LeaseError) -> Self {
        let detail = error.to_string();
        match error {
            LeaseError::Unknown => Self::new("lease", detail).with("reason", "unknown"),
            LeaseError::Acked => Self::new("lease", detail).with("reason", "acked"),
            LeaseError::Unreachable => Self::new("unreachable", detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_once_in_the_table_and_in_order_of_its_status() {
        assert!(KINDS.is_sorted_by_key(|(_, status, _)| *status));
        for (kind, status, title) in KINDS {
            assert_eq!(KINDS.iter().filter(|(other, ..)| other == kind).count(), 1, "{kind}");
            assert!((400..600).contains(status) && !title.is_empty(), "{kind}");
        }
    }

    #[test]
    fn every_problem_made_here_is_of_a_kind_of_the_table() {
        let files = [
            include_str!("append.rs"),
            include_str!("body.rs"),
            include_str!("call.rs"),
            include_str!("entry.rs"),
            include_str!("groups.rs"),
            include_str!("mod.rs"),
            include_str!("page.rs"),
            include_str!("problem.rs"),
            include_str!("query.rs"),
            include_str!("topics.rs"),
        ];
        let mut count = 0;
        for code in files.map(|code| code.split("#[cfg(test)]").next().unwrap()) {
            let made = code.split("Self::new(").skip(1).chain(code.split("Problem::new(").skip(1));
            for rest in made {
                let word = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                let Some(kind) = word else { continue };
                assert!(KINDS.iter().any(|(of, ..)| *of == kind), "{kind:?}");
                count += 1;
            }
        }
        assert!(count > KINDS.len());
    }
}
