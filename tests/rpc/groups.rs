//! Groups over the client protocol, at one peer.
use crate::peer::Peer;
use conveyor::base::{EntryId, GroupName, TopicName};
use conveyor::client::{
    Client, ClientError, ConsumerOptions, Delivered, Group, GroupError, GroupSettings, LeaseError,
    NextOptions, ReadFrom, TopicChange, WhenExhausted,
};
use conveyor::identity::Rights;
use std::collections::BTreeMap;
use std::time::Duration;

fn topic() -> TopicName {
    TopicName::new("jobs").unwrap()
}

fn group_of(client: &Client) -> Group {
    client.group(topic(), GroupName::new("mailers").unwrap())
}

async fn begin(client: &Client, settings: GroupSettings) -> Group {
    let group = group_of(client);
    assert!(group.create(ReadFrom::Start, settings).await.unwrap());
    group
}

async fn append(client: &Client, payloads: &[&str]) -> Vec<EntryId> {
    let mut ids = Vec::new();
    for payload in payloads {
        ids.push(client.append(&topic(), *payload).await.unwrap());
    }
    ids
}

fn payloads(delivered: &[Delivered]) -> Vec<String> {
    let text = |one: &Delivered| String::from_utf8(one.record.entry.payload.to_vec()).unwrap();
    delivered.iter().map(text).collect()
}

fn many(count_max: u32) -> NextOptions {
    NextOptions { count_max, ..NextOptions::default() }
}

fn waiting(count_max: u32) -> NextOptions {
    NextOptions { count_max, wait: Duration::from_secs(20), ..NextOptions::default() }
}

#[tokio::test]
async fn each_entry_goes_to_one_consumer_until_it_is_acknowledged() {
    let peer = Peer::start();
    let client = peer.client().await;
    let ids = append(&client, &["a", "b", "c"]).await;
    let group = begin(&client, GroupSettings::default()).await;
    assert!(!group.create(ReadFrom::Now, GroupSettings::default()).await.unwrap(), "it is there");
    let first = group.next(many(2)).await.unwrap();
    assert_eq!((payloads(&first), first[0].attempt), (vec!["a".into(), "b".into()], 1));
    assert_eq!(payloads(&group.next(many(9)).await.unwrap()), ["c"]);
    assert!(group.next(many(9)).await.unwrap().is_empty());
    assert_eq!(group.ack(&ids).await.unwrap(), [true; 3]);
    assert_eq!(group.ack(&ids[..1]).await.unwrap(), [false], "that was known");
    let info = group.info().await.unwrap();
    assert_eq!((info.acked_count, info.leased_count, info.ready_count), (3, 0, 0));
    // What comes later is handed out to whoever waits.
    let waits = tokio::spawn(async move { group.next(waiting(1)).await.unwrap() });
    append(&client, &["d"]).await;
    assert_eq!(payloads(&waits.await.unwrap()), ["d"]);
}

#[tokio::test]
async fn what_is_given_back_takes_its_old_place_and_a_lease_ends_once() {
    let peer = Peer::start();
    let client = peer.client().await;
    append(&client, &["a", "b"]).await;
    let group = begin(&client, GroupSettings::default()).await;
    let first = group.next(many(1)).await.unwrap();
    let lease = first[0].lease;
    assert_eq!(group.extend(&[lease], Some(Duration::from_secs(60))).await.unwrap(), [Ok(())]);
    assert_eq!(group.nack(&[lease], None, true).await.unwrap(), [Ok(())]);
    assert_eq!(group.nack(&[lease], None, true).await.unwrap(), [Err(LeaseError::Unknown)]);
    assert_eq!(group.extend(&[lease], None).await.unwrap(), [Err(LeaseError::Unknown)]);
    let again = group.next(many(2)).await.unwrap();
    assert_eq!((payloads(&again), again[0].attempt), (vec!["a".into(), "b".into()], 2));
    group.ack(&[again[0].lease.id]).await.unwrap();
    assert_eq!(group.extend(&[again[0].lease], None).await.unwrap(), [Err(LeaseError::Acked)]);
    assert_eq!(group.info().await.unwrap().redelivered.nacked, 1);
}

#[tokio::test]
async fn a_lease_that_ends_and_a_delay_bring_an_entry_back() {
    let peer = Peer::start();
    let client = peer.client().await;
    append(&client, &["a"]).await;
    let group = begin(&client, GroupSettings { lease_ms: 50, ..GroupSettings::default() }).await;
    assert_eq!(group.next(many(1)).await.unwrap().len(), 1);
    let again = group.next(waiting(1)).await.unwrap();
    assert_eq!((payloads(&again), again[0].attempt), (vec!["a".into()], 2));
    let delay = Some(Duration::from_millis(50));
    group.nack(&[again[0].lease], delay, false).await.unwrap();
    let third = group.next(waiting(1)).await.unwrap();
    assert_eq!(third[0].attempt, 2, "the second does not count");
    assert_eq!(group.info().await.unwrap().redelivered.expired, 1);
}

#[tokio::test]
async fn a_rewound_group_hands_out_again_and_a_deleted_one_is_gone() {
    let peer = Peer::start();
    let client = peer.client().await;
    let ids = append(&client, &["a", "b", "c"]).await;
    let group = begin(&client, GroupSettings::default()).await;
    assert_eq!(group.ack(&ids).await.unwrap(), [true; 3], "nobody was handed them");
    assert!(group.next(many(9)).await.unwrap().is_empty());
    assert!(group.rewind(ReadFrom::Start).await.unwrap());
    assert_eq!(payloads(&group.next(many(9)).await.unwrap()), ["a", "b", "c"]);
    assert!(group.rewind(ReadFrom::Now).await.unwrap());
    assert!(group.next(many(9)).await.unwrap().is_empty());
    append(&client, &["d"]).await;
    assert_eq!(payloads(&group.next(waiting(9)).await.unwrap()), ["d"]);
    assert_eq!(client.groups(&topic()).await.unwrap().len(), 1);
    assert!(group.delete().await.unwrap());
    assert!(client.groups(&topic()).await.unwrap().is_empty());
    let gone = group.next(many(1)).await.unwrap_err();
    assert!(matches!(gone, ClientError::Group(GroupError::Unknown { .. })), "{gone}");
}

#[tokio::test]
async fn the_groups_of_a_deleted_topic_are_gone_with_it() {
    let peer = Peer::start();
    let client = peer.client().await;
    let ids = append(&client, &["a"]).await;
    let group = begin(&client, GroupSettings::default()).await;
    group.ack(&ids).await.unwrap();
    client.change_topic(TopicChange::Delete { topic: topic() }).await.unwrap();
    assert!(client.groups(&topic()).await.unwrap().is_empty());
    append(&client, &["b"]).await;
    let group = begin(&client, GroupSettings::default()).await;
    assert_eq!(payloads(&group.next(many(9)).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn what_nobody_can_do_ends_as_a_dead_letter() {
    let peer = Peer::start();
    let client = peer.client().await;
    let ids = append(&client, &["poison"]).await;
    let dead = TopicName::new("jobs.dead").unwrap();
    let settings = GroupSettings {
        max_deliveries: 2,
        when_exhausted: WhenExhausted::Topic(dead.clone()),
        ..GroupSettings::default()
    };
    let group = begin(&client, settings).await;
    for _ in 0..2 {
        let one = group.next(waiting(1)).await.unwrap();
        group.nack(&[one[0].lease], None, true).await.unwrap();
    }
    let mut reader = client.read(&dead).follow(true).stream();
    let Some(Ok(conveyor::client::Item::Entry(record))) = reader.next().await else {
        panic!("a dead letter")
    };
    assert_eq!(record.entry.payload, "poison");
    let headers: BTreeMap<String, String> = record
        .entry
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8(value.to_vec()).unwrap()))
        .collect();
    assert_eq!(headers["conveyor-why"], "exhausted");
    assert_eq!(headers["conveyor-group"], "mailers");
    assert_eq!(headers["conveyor-attempts"], "2");
    assert!(headers["conveyor-from"].ends_with(&format!("/{}", ids[0].seq)), "{headers:?}");
    assert!(group.next(many(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_consumer_works_through_a_backlog_and_what_it_leaves_goes_to_another() {
    let peer = Peer::start();
    let client = peer.client().await;
    let payloads: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    append(&client, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let group = begin(&client, GroupSettings::default()).await;
    let mut first = group.consumer(ConsumerOptions::default());
    let mut seen = Vec::new();
    for _ in 0..100 {
        let job = first.next().await.unwrap().unwrap();
        seen.push(String::from_utf8(job.record().entry.payload.to_vec()).unwrap());
        assert!(job.ack().await.unwrap());
    }
    assert_eq!(seen, payloads[..100], "in the order of the log");
    // What it holds and did not begin is given back.
    first.stop().await;
    let other = peer.client().await;
    let mut second = group_of(&other).consumer(ConsumerOptions { prefetch_count: 8, ..Default::default() });
    for expected in &payloads[100..] {
        let job = second.next().await.unwrap().unwrap();
        assert_eq!(job.record().entry.payload, expected.as_bytes());
        job.ack_later();
    }
    second.stop().await;
    assert_eq!(group.info().await.unwrap().acked_count, 200);
}

#[tokio::test]
async fn the_leases_of_a_consumer_that_is_gone_go_to_another_at_once() {
    let peer = Peer::start();
    let client = peer.client().await;
    append(&client, &["a"]).await;
    let group = begin(&client, GroupSettings { lease_ms: 3_600_000, ..GroupSettings::default() }).await;
    let gone = peer.client().await;
    let mut consumer = group_of(&gone).consumer(ConsumerOptions::default());
    let job = consumer.next().await.unwrap().unwrap();
    assert_eq!(job.record().entry.payload, "a");
    gone.close().await;
    let again = group.next(waiting(1)).await.unwrap();
    assert_eq!(payloads(&again), ["a"]);
    assert_eq!(group.info().await.unwrap().redelivered.left, 1);
    drop((job, consumer));
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_the_reason() {
    let peer = Peer::start();
    let client = peer.client().await;
    let ids = append(&client, &["a"]).await;
    let group = group_of(&client);
    let unknown = group.next(many(1)).await.unwrap_err();
    assert!(matches!(unknown, ClientError::Group(GroupError::Unknown { .. })), "{unknown}");
    let group = begin(&client, GroupSettings::default()).await;
    let foreign = EntryId { run: conveyor::base::RunId(7), ..ids[0] };
    let refused = group.ack(&[ids[0], foreign]).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::IdUnknown { .. })), "{refused}");
    assert_eq!(group.next(many(1)).await.unwrap().len(), 1, "nothing of that was acknowledged");
    let long = NextOptions { lease: Some(Duration::from_secs(13 * 3600)), ..many(1) };
    let refused = group.next(long).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Limit { .. })), "{refused}");
    let refused = group.next(many(1025)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Limit { .. })), "{refused}");
    let reader = peer.client_with(Rights { write: false, admin: false, ..Rights::all() }).await;
    let refused = group_of(&reader).delete().await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Forbidden { .. })), "{refused}");
    let refused = group_of(&reader).rewind(ReadFrom::Start).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Forbidden { .. })), "{refused}");
    assert!(group_of(&reader).ack(&ids).await.unwrap()[0], "consuming takes the right to read");
    // The peer appends dead letters: who may not write there cannot have it do so.
    let settings = GroupSettings {
        max_deliveries: 1,
        when_exhausted: WhenExhausted::Topic(TopicName::new("payroll").unwrap()),
        ..GroupSettings::default()
    };
    let other = reader.group(topic(), GroupName::new("other").unwrap());
    let refused = other.create(ReadFrom::Start, settings).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Forbidden { .. })), "{refused}");
    let settings = GroupSettings { expire_to: Some(TopicName::catalog()), ..GroupSettings::default() };
    let refused =
        client.group(topic(), other.name().clone()).create(ReadFrom::Start, settings).await.unwrap_err();
    assert!(matches!(refused, ClientError::Group(GroupError::Name(_))), "{refused}");
    // A client's own append cannot pretend to be what a group did.
    let refused = client.append(&topic().of_groups(), "x").await.unwrap_err();
    assert!(matches!(refused, ClientError::Append(_)), "{refused}");
}
