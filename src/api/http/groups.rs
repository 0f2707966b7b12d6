//! Groups: making and setting them, and what consumers do, one request each. Leases end by their time alone, since a request
//! has no consumer that could go away.
use super::call::{Call, json};
use super::problem::Problem;
use super::query::place;
use crate::api::allowed;
use crate::base::{EntryId, EntryRef, GroupName, NameError, PeerRef, RunId, TopicId, TopicName};
use crate::runtime::Leased;
use crate::wire::contents::RawEntry;
use crate::wire::group::{
    Delivery, GROUP_COUNT_MAX, GroupAnswer, GroupError, GroupRequest, GroupSettings, Lease, LeaseError,
    WhenExhausted,
};
use crate::wire::json::{DeliveredJson, GroupJson, id_word, lease_word};
use crate::wire::message::WAIT_MS_MAX;
use crate::wire::outcome::ReadFrom;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json as value};

/// Raw bytes of the entries that one request is handed, where it does not say.
const NEXT_BYTES_DEFAULT: u64 = 4 << 20;

impl Call {
    async fn ask(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: GroupRequest,
    ) -> Result<Leased, Problem> {
        let asked = match allowed::group(self.rights(), topic, &request) {
            Ok(()) => {
                tokio::select! {
                    biased;
                    () = self.shared.stopping() => Err(GroupError::Stopped),
                    answer = self.handle().group(topic, group, 0, request) => answer,
                }
            }
            Err(error) => Err(error),
        };
        asked.map_err(|error| Problem::of_group(topic, error))
    }

    /// The same of the group in the address.
    async fn ask_it(&self, request: GroupRequest) -> Result<Leased, Problem> {
        self.ask(&self.topic()?, &self.group()?, request).await
    }

    async fn info(&self, status: StatusCode) -> Result<Response, Problem> {
        let topic = self.topic()?;
        match self.ask_it(GroupRequest::Info).await? {
            (GroupAnswer::Info(info), _) => json(status, &GroupJson::new(&topic, &info)),
            _ => Err(unexpected()),
        }
    }
}

/// The engine answered something else than what was asked.
fn unexpected() -> Problem {
    Problem::stopped("the peer has no answer to this")
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let topic = call.topic()?;
    let told = |error| Problem::of_group(&topic, error);
    allowed::group(call.rights(), &topic, &GroupRequest::Info).map_err(told)?;
    let groups = call.handle().groups_of(&topic).await.map_err(told)?;
    let groups: Vec<_> = groups.iter().map(|info| GroupJson::new(&topic, info)).collect();
    json(StatusCode::OK, &value!({ "groups": groups }))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    call.info(StatusCode::OK).await
}

/// How a group hands out, with the names that showing it has; what is not named stays.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct SettingsJson {
    from: Option<String>,
    paused: Option<bool>,
    lease_ms: Option<u64>,
    max_deliveries: Option<u32>,
    when_exhausted: Option<WhenExhausted>,
    retry_delay_ms: Option<u64>,
    /// `null` says: to none.
    #[serde(deserialize_with = "given")]
    expire_to: Option<Option<TopicName>>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<TopicName>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl SettingsJson {
    fn apply(self, now: GroupSettings) -> Result<GroupSettings, Problem> {
        let settings = GroupSettings {
            lease_ms: self.lease_ms.unwrap_or(now.lease_ms),
            max_deliveries: self.max_deliveries.unwrap_or(now.max_deliveries),
            when_exhausted: self.when_exhausted.unwrap_or(now.when_exhausted),
            retry_delay_ms: self.retry_delay_ms.unwrap_or(now.retry_delay_ms),
            expire_to: self.expire_to.unwrap_or(now.expire_to),
            is_paused: self.paused.unwrap_or(now.is_paused),
        };
        let dead = match &settings.when_exhausted {
            WhenExhausted::Topic(topic) => Some(topic),
            WhenExhausted::Keep | WhenExhausted::Drop => None,
        };
        match dead.into_iter().chain(&settings.expire_to).any(TopicName::is_system) {
            true => Err(NameError::TopicReserved.into()),
            false => Ok(settings),
        }
    }
}

pub(super) async fn put(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (group, only_if_new) = (call.group()?, call.only_if_new()?);
    let given: SettingsJson = call.take_json().await?;
    let from = given.from.as_deref().map_or(Ok(ReadFrom::Start), place)?;
    let settings = given.apply(GroupSettings::default())?;
    let (answer, _) = call.ask_it(GroupRequest::Create { from, settings }).await?;
    let is_new = matches!(answer, GroupAnswer::Done { is_changed: true });
    if !is_new && only_if_new {
        return Err(Problem::new("exists", format!("there is a group {:?} already", group.as_str())));
    }
    // One that was there stays as it is; PATCH changes it.
    call.info(if is_new { StatusCode::CREATED } else { StatusCode::OK }).await
}

pub(super) async fn patch(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let given: SettingsJson = call.take_json().await?;
    if given.from.is_some() {
        return Err(Problem::malformed(
            "a group that is there begins where it began; POST …/rewind moves it",
        ));
    }
    let now = match call.ask_it(GroupRequest::Info).await? {
        (GroupAnswer::Info(info), _) => info.settings,
        _ => return Err(unexpected()),
    };
    call.ask_it(GroupRequest::Set { settings: given.apply(now)? }).await?;
    call.info(StatusCode::OK).await
}

pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, group) = (call.topic()?, call.group()?);
    call.ask_it(GroupRequest::Delete).await?;
    json(StatusCode::OK, &value!({ "topic": topic, "group": group, "deleted": true }))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct NextJson {
    count: Option<u32>,
    bytes_max: Option<u64>,
    lease_ms: Option<u64>,
    wait_ms: u64,
    acked: Vec<String>,
}

pub(super) async fn next(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, given): (_, NextJson) = (call.topic()?, call.take_json().await?);
    let count_max = given.count.unwrap_or(1);
    if count_max as usize > GROUP_COUNT_MAX || given.wait_ms > WAIT_MS_MAX {
        let told = format!("count is at most {GROUP_COUNT_MAX}, and wait_ms {WAIT_MS_MAX}");
        return Err(Problem::new("limit", told));
    }
    let request = GroupRequest::Next {
        count_max,
        bytes_max: given.bytes_max.unwrap_or(NEXT_BYTES_DEFAULT),
        lease_ms: given.lease_ms,
        wait_ms: given.wait_ms,
        acked: ids(&call, &topic, &given.acked).await?,
    };
    match call.ask_it(request).await? {
        (GroupAnswer::Leased(leases), entries) => {
            let handed =
                leases.iter().zip(&entries).filter_map(|(lease, raw)| delivered(&call, &topic, lease, raw));
            json(StatusCode::OK, &value!({ "entries": handed.collect::<Vec<_>>() }))
        }
        _ => json(StatusCode::OK, &value!({ "entries": [] })),
    }
}

fn delivered(call: &Call, topic: &TopicName, lease: &Delivery, raw: &RawEntry) -> Option<DeliveredJson> {
    call.shared.counters.entries_sent.add(1);
    Some(DeliveredJson {
        lease: lease_word(&id_word(topic, &lease.lease.id), lease.lease.number),
        lease_ms: lease.lease_ms,
        attempt: lease.attempt,
        record: super::page::Names::default().record(call.handle(), topic, raw)?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckJson {
    ids: Vec<String>,
}

pub(super) async fn ack(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, given): (_, AckJson) = (call.topic()?, call.take_json().await?);
    let ids = ids(&call, &topic, &given.ids).await?;
    match call.ask_it(GroupRequest::Ack { ids }).await? {
        (GroupAnswer::Acked(news), _) => {
            let acked = news.iter().filter(|is_news| **is_news).count();
            json(StatusCode::OK, &value!({ "acked": acked, "known": news.len() - acked }))
        }
        _ => Err(unexpected()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NackJson {
    leases: Vec<String>,
    #[serde(default)]
    delay_ms: Option<u64>,
    #[serde(default = "yes")]
    counts: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn nack(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, given): (_, NackJson) = (call.topic()?, call.take_json().await?);
    let leases = leases(&call, &topic, &given.leases).await?;
    let request = GroupRequest::Nack { leases, delay_ms: given.delay_ms, counts: given.counts };
    outcomes(&given.leases, call.ask_it(request).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendJson {
    leases: Vec<String>,
    #[serde(default)]
    lease_ms: Option<u64>,
}

pub(super) async fn extend(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let (topic, given): (_, ExtendJson) = (call.topic()?, call.take_json().await?);
    let leases = leases(&call, &topic, &given.leases).await?;
    outcomes(&given.leases, call.ask_it(GroupRequest::Extend { leases, lease_ms: given.lease_ms }).await?)
}

/// What became of each lease; where nothing came of any, that is the answer.
fn outcomes(words: &[String], (answer, _): Leased) -> Result<Response, Problem> {
    let GroupAnswer::Leases(outcomes) = answer else { return Err(unexpected()) };
    let outcome = |(word, outcome): (&String, &Result<(), LeaseError>)| -> Value {
        let problem = outcome.as_ref().err().map(|error| Problem::of_lease(*error).to_json());
        value!({ "lease": word, "done": problem.is_none(), "problem": problem })
    };
    let told: Vec<Value> = words.iter().zip(&outcomes).map(outcome).collect();
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    match failed.filter(|_| outcomes.iter().all(Result::is_err)) {
        Some(error) => Err(Problem::of_lease(*error).with("outcomes", told)),
        None => json(StatusCode::OK, &value!({ "outcomes": told })),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RewindJson {
    to: String,
}

pub(super) async fn rewind(mut call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let given: RewindJson = call.take_json().await?;
    call.ask_it(GroupRequest::Rewind { to: place(&given.to)? }).await?;
    call.info(StatusCode::OK).await
}

/// The entries that words mean: ids in full or short, or leases.
async fn ids(call: &Call, topic: &TopicName, words: &[String]) -> Result<Vec<EntryId>, Problem> {
    let leases = named(call, topic, words).await?;
    Ok(leases.into_iter().map(|(id, _)| id).collect())
}

/// The leases that words mean.
async fn leases(call: &Call, topic: &TopicName, words: &[String]) -> Result<Vec<Lease>, Problem> {
    let named = named(call, topic, words).await?;
    let lease = |((id, number), word): ((EntryId, Option<u64>), &String)| {
        let missing =
            || Problem::new("name", format!("{word:?} is an id without a lease; …/next tells ID@LEASE"));
        number.map(|number| Lease { id, number }).ok_or_else(missing)
    };
    named.into_iter().zip(words).map(lease).collect()
}

async fn named(
    call: &Call,
    topic: &TopicName,
    words: &[String],
) -> Result<Vec<(EntryId, Option<u64>)>, Problem> {
    if words.is_empty() || words.len() > GROUP_COUNT_MAX {
        // None at all is no mistake where something else is asked for too.
        return match words.len() {
            0 => Ok(Vec::new()),
            _ => Err(Problem::new("limit", format!("at most {GROUP_COUNT_MAX} entries in one request"))),
        };
    }
    let mut found = Vec::with_capacity(words.len());
    for word in words {
        let (id, number) = match word.rsplit_once('@') {
            Some((id, number)) if number.len() == 16 => (id, u64::from_str_radix(number, 16).ok()),
            _ => (word.as_str(), None),
        };
        let id = EntryRef::parse(id).map_err(|error| Problem::new("name", format!("{word:?}: {error}")))?;
        if id.topic != *topic {
            return Err(Problem::new("name", format!("{word:?} is an entry of another topic")));
        }
        found.push((resolve(call, &id).await?, number));
    }
    Ok(found)
}

/// An id in full is what it is; another is looked up among what is held here.
async fn resolve(call: &Call, id: &EntryRef) -> Result<EntryId, Problem> {
    if let (PeerRef::Key(peer), Some(run)) = (&id.peer, RunId::parse(&id.run)) {
        let topic = TopicId::of(call.handle().about().cluster, id.topic.as_str());
        return Ok(EntryId { topic, peer: *peer, run, seq: id.seq });
    }
    allowed::read(call.rights(), &id.topic, &ReadFrom::Id(id.clone()))?;
    Ok(call.handle().get(id).await?.id)
}
