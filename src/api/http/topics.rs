//! Topics: which there are, what they hold, making, setting and deleting them.
use super::call::{Call, json};
use super::problem::Problem;
use crate::api::allowed;
use crate::base::{Retention, TopicName, TopicSettings};
use crate::runtime::Handle;
use crate::wire::json::TopicJson;
use crate::wire::outcome::{TopicChange, TopicError};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json as value;

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let topics = call.handle().aside(Handle::topics).await?;
    let seen = topics.iter().filter(|topic| allowed::sees(call.rights(), &topic.name));
    json(StatusCode::OK, &value!({ "topics": seen.map(TopicJson::new).collect::<Vec<_>>() }))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let topic = call.topic()?;
    shown(&call, &topic, StatusCode::OK)
}

fn shown(call: &Call, topic: &TopicName, status: StatusCode) -> Result<Response, Problem> {
    if !allowed::sees(call.rights(), topic) {
        return Err(Problem::forbidden(format!("this token does not allow anything with {topic:?}")));
    }
    let found = call.handle().topic(topic).ok_or_else(|| Problem::topic_unknown(topic))?;
    json(status, &TopicJson::new(&found))
}

/// What a topic is set to do, with the names that showing it has.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct SettingsJson {
    durability: Option<String>,
    keep_age_ms: Option<u64>,
    keep_bytes: Option<u64>,
    keep_count: Option<u64>,
}

pub(super) async fn put(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, only_if_new) = (call.topic()?, call.only_if_new()?);
    let given: SettingsJson = call.take_json().await?;
    let durability = given.durability.map(|text| text.parse()).transpose()?;
    let named = [given.keep_age_ms, given.keep_bytes, given.keep_count];
    // What is not named stays as the topic has it, or as this peer has it for topics that nobody set.
    let over = |base: TopicSettings| {
        let Retention { age_ms, bytes, count } = base.retention;
        let [named_age_ms, named_bytes, named_count] = named;
        let retention = Retention {
            age_ms: named_age_ms.or(age_ms),
            bytes: named_bytes.or(bytes),
            count: named_count.or(count),
        };
        TopicSettings { durability: durability.unwrap_or(base.durability), retention }
    };
    if named.contains(&Some(0)) {
        return Err(Problem::new(
            "limit",
            "what is kept is a whole number from 1 on; leave it out to keep all",
        ));
    }
    let settings = over(call.shared.topic_defaults);
    let status = match change(&call, TopicChange::Create { topic: topic.clone(), settings }).await {
        Ok(_) => StatusCode::CREATED,
        Err(TopicError::Exists { .. }) if !only_if_new => {
            let is = call.handle().topic(&topic).map_or(call.shared.topic_defaults, |info| info.settings);
            if over(is) != is {
                change(&call, TopicChange::Set { topic: topic.clone(), settings: over(is) }).await?;
            }
            StatusCode::OK
        }
        Err(error) => return Err(error.into()),
    };
    shown(&call, &topic, status)
}

async fn change(call: &Call, wanted: TopicChange) -> Result<crate::wire::outcome::TopicChanged, TopicError> {
    allowed::change(call.rights(), &wanted)?;
    call.handle().change_topic(wanted).await
}

pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let topic = call.topic()?;
    let changed = change(&call, TopicChange::Delete { topic: topic.clone() }).await?;
    let deleted = changed.deleted.unwrap_or_default();
    let not_asked: Vec<String> = deleted.not_asked.iter().map(ToString::to_string).collect();
    json(StatusCode::OK, &value!({ "topic": topic, "deleted": true, "not_asked": not_asked }))
}
