//! What must hold when everything is up and has had its time.
use crate::cluster::check::{Books, books};
use crate::cluster::lock;
use crate::whole::host::Live;
use crate::whole::seen::Seen;
use crate::whole::user::User;
use crate::whole::{Stack, getter, topics};
use conveyor::base::{EntryId, StoreId, TopicName};
use conveyor::client::{Client, ClientError, ReadError};
use conveyor::wire::outcome::ReadFrom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Time within which healthy peers must have sessions, know each other by gossip, and hold the same: a connection that is gone
/// is noticed in 12 s and dialled again within 10, and two comparisons and their bytes take some 30 more.
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(60);
/// Time within which a tail must have all that its peer has: a connection that is gone is noticed in 12 s, and other peers are
/// tried for 5 s each.
pub const FOLLOWED_WITHIN: Duration = Duration::from_secs(45);
/// Time that a read of all, or an append, may take at a healthy peer.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Ids in the last request for some of all.
const GOT_MAX: usize = 100;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);

/// P4: within their time all peers hold the same, have sessions with all others, and hear of them.
pub async fn check_converges(stack: &Stack) {
    let (began, mut before) = (Instant::now(), String::new());
    while let Some(lacking) = lacks(stack) {
        if lacking != before {
            stack.recorder.note(format_args!("not yet: {lacking}"));
            before.clone_from(&lacking);
        }
        assert!(began.elapsed() < CONVERGED_WITHIN, "P4: not within {CONVERGED_WITHIN:?}: {lacking}");
        sleep(LOOK).await;
    }
    let took_ms = began.elapsed().as_millis();
    stack.recorder.note(format_args!("all hold the same and know each other after {took_ms} ms"));
}

/// What there is still to wait for.
fn lacks(stack: &Stack) -> Option<String> {
    let live = stack.all_live();
    if live.len() < stack.setup.peer_count {
        return Some(format!("{:?} are up", live.keys()));
    }
    let stores: BTreeMap<usize, StoreId> =
        live.iter().map(|(host, live)| (*host, live.handle.about().store)).collect();
    for (host, live) in &live {
        let others: BTreeSet<StoreId> =
            stores.values().copied().filter(|store| *store != stores[host]).collect();
        let connected: BTreeSet<StoreId> = live.connected().iter().map(|other| other.store).collect();
        if connected != others {
            return Some(format!("{host} has sessions with {connected:?} and not with {others:?}"));
        }
        let members = live.members();
        let alive = members.iter().filter(|member| member.is_alive).map(|member| member.facts.store());
        let alive: BTreeSet<StoreId> = alive.filter(|store| *store != stores[host]).collect();
        if alive != others {
            return Some(format!("{host} hears by gossip of {alive:?} and not of {others:?}"));
        }
    }
    topics().iter().find_map(|topic| differ(stack, topic, &live))
}

fn differ(stack: &Stack, topic: &TopicName, live: &BTreeMap<usize, Arc<Live>>) -> Option<String> {
    let id = stack.topic_id(topic);
    let books: BTreeMap<usize, Books> =
        live.iter().map(|(host, live)| (*host, books(live.handle.store(), id))).collect();
    let (first, of_first) = books.first_key_value()?;
    let (other, of_other) = books.iter().find(|(_, of_other)| of_other != &of_first)?;
    let of_first: BTreeMap<_, _> =
        of_first.iter().filter(|(run, held)| of_other.get(run) != Some(held)).collect();
    Some(format!("{first} and {other} hold different entries of {topic}: {of_first:?}"))
}

/// Every peer takes an append of each topic from a client that knows it alone.
pub async fn check_takes_appends(stack: &Arc<Stack>, readers: &mut [(User, Client)]) {
    for (host, (_, client)) in readers.iter().enumerate() {
        for topic in topics() {
            let nonce = lock(&stack.model).attempt();
            let entry = crate::cluster::model::payload(nonce);
            let append = timeout(ANSWERED_WITHIN, client.append(&topic, entry)).await;
            let is_taken =
                append.is_ok_and(|appended| appended.is_ok_and(|id| stack.host_of(&id.peer) == Some(host)));
            assert!(is_taken, "{host} is healthy and takes no appends");
        }
    }
}

/// Clients of which each knows one peer.
pub async fn one_client_each(stack: &Arc<Stack>) -> Vec<(User, Client)> {
    let mut all = Vec::new();
    for host in 0..stack.setup.peer_count {
        let mut user = User::new(stack, vec![host]);
        let client = timeout(ANSWERED_WITHIN, user.connect()).await;
        let client = client.unwrap_or_else(|_| panic!("{host} is healthy and lets no client in"));
        all.push((user, client));
    }
    all
}

/// P1, P4: what was acknowledged is at every peer, and every peer gives the same; P5: and so do tails.
pub async fn check_all(
    stack: &Arc<Stack>,
    readers: &[(User, Client)],
    tails: &[(TopicName, Arc<Mutex<Seen>>)],
) {
    stack.census();
    for topic in topics() {
        let mut first: Option<Seen> = None;
        for (host, (_, client)) in readers.iter().enumerate() {
            let read = timeout(ANSWERED_WITHIN, read_all(stack, host, client, &topic)).await;
            let seen = read.unwrap_or_else(|_| panic!("{host} is healthy and does not give all of {topic}"));
            check_owed(stack, host, &topic, &seen);
            seen.double_count(stack);
            match &first {
                None => first = Some(seen),
                Some(first) => check_same(host, first, &seen),
            }
        }
        let Some(first) = first else { continue };
        for (_, seen) in tails.iter().filter(|(of, _)| *of == topic) {
            check_followed(stack, &topic, seen, &first).await;
        }
        let (count, doubles) = (first.entries.len(), first.double_count(stack));
        stack.recorder.note(format_args!("{topic} has {count} entries everywhere, {doubles} of them again"));
    }
    for (host, (_, client)) in readers.iter().enumerate() {
        check_got(stack, host, client).await;
    }
    let (owed, counts) = (lock(&stack.model).owed_count(), stack.udp.counts());
    stack.recorder.note(format_args!("safe and live: {owed} entries owed, {counts:?}"));
}

/// What a peer gives a client of a topic, from its beginning to its end.
async fn read_all(stack: &Stack, host: usize, client: &Client, topic: &TopicName) -> Seen {
    let (mut seen, who) = (Seen::default(), format!("a reader at {host}"));
    let mut reader = client.read(topic).from(ReadFrom::Start).stream();
    while let Some(item) = reader.next().await {
        match item {
            Ok(item) => seen.take(stack, &who, item),
            Err(ClientError::Read(ReadError::TopicUnknown { .. })) => break,
            Err(error) => panic!("{host} is healthy and cannot be read: {error}"),
        }
    }
    let at = stack.host_of(&client.about().peer);
    assert_eq!(at, Some(host), "a healthy peer keeps its clients");
    seen
}

/// P1: some of what was acknowledged is got from a peer by its ids.
async fn check_got(stack: &Stack, host: usize, client: &Client) {
    let ids: Vec<EntryId> = {
        let model = lock(&stack.model);
        let step = 1 + model.owed_count() / GOT_MAX;
        model.owed().map(|(id, _)| *id).step_by(step).collect()
    };
    let got = timeout(ANSWERED_WITHIN, getter::get(stack, client, &ids, Duration::ZERO)).await;
    let is_all = got.as_ref().is_ok_and(|got| got.as_ref().is_ok_and(Vec::is_empty));
    assert!(is_all, "P1: {host} does not give what was acknowledged: {got:?}");
}

fn check_owed(stack: &Stack, host: usize, topic: &TopicName, seen: &Seen) {
    let model = lock(&stack.model);
    let id = stack.topic_id(topic);
    let mut owed = model.owed().filter(|(entry, _)| entry.topic == id);
    let missing = owed.find(|(entry, _)| !seen.entries.contains_key(entry));
    assert!(missing.is_none(), "P1: acknowledged and not at {host}: {missing:?}");
}

fn check_same(host: usize, first: &Seen, other: &Seen) {
    let ids = |seen: &Seen| -> BTreeSet<EntryId> { seen.entries.keys().copied().collect() };
    let (of_first, of_other) = (ids(first), ids(other));
    let differs: Vec<&EntryId> = of_first.symmetric_difference(&of_other).take(3).collect();
    assert!(differs.is_empty(), "P4: 0 and {host} give different entries: {differs:?}");
}

/// P5: a tail gets all that there is, in its time. What was lost with a disk may be more than that.
async fn check_followed(stack: &Stack, topic: &TopicName, tail: &Mutex<Seen>, all: &Seen) {
    let began = Instant::now();
    let missed = || all.entries.keys().find(|id| !lock(tail).entries.contains_key(id)).copied();
    while let Some(missed) = missed() {
        let had = lock(tail).entries.len();
        let is_time = began.elapsed() < FOLLOWED_WITHIN;
        assert!(is_time, "P5: a tail of {topic} has {had} entries and passed over {missed:?}");
        sleep(LOOK).await;
    }
    let has_doubts = lock(&stack.model).has_doubts();
    let vanished = lock(tail).entries.keys().find(|id| !all.entries.contains_key(id)).copied();
    assert!(vanished.is_none() || has_doubts, "P3: a tail was given {vanished:?}, which nobody has");
}
