use crate::peer::{Peer, payloads, topic};
use conveyor::base::{Cursor, CursorError, Entry, EntryRef, RunId, Seq};
use conveyor::client::{ClientError, Exported, Imported, Item, ReadError, ReadFrom, TopicChange};
use conveyor::log::state::Range;
use std::time::Duration;

fn entries(items: &[Item]) -> Vec<String> {
    let payload = |item: &Item| match item {
        Item::Entry(record) => String::from_utf8(record.entry.payload.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    items.iter().map(payload).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_by_their_cursors_with_limits_and_filter() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    for number in 0..25 {
        let key = if number % 5 == 0 { "five" } else { "other" };
        let entry = Entry { key: key.into(), ..Entry::from(format!("{number}")) };
        client.append(&jobs, entry).await.unwrap();
    }
    let (mut from, mut seen) = (ReadFrom::Start, Vec::new());
    loop {
        let page = client.read(&jobs).from(from).limit(10).page().await.unwrap();
        assert!(page.items.len() <= 10);
        seen.extend(entries(&page.items));
        let word = page.cursor.to_string();
        from = ReadFrom::Cursor(word.parse::<Cursor>().unwrap());
        if page.at_end {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    let page = client.read(&jobs).key("five").page().await.unwrap();
    assert_eq!(entries(&page.items), ["0", "5", "10", "15", "20"]);
    let page = client.read(&jobs).bytes_max(1).page().await.unwrap();
    assert_eq!(page.items.len(), 1, "one entry always fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_key_is_rare_looks_at_so_much_and_says_where_it_got_to() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    for number in 0..20u8 {
        let (key, bytes) = if number == 18 { ("rare", 1) } else { ("other", 1 << 20) };
        let entry = Entry { key: key.into(), ..Entry::from(vec![number; bytes]) };
        client.append(&jobs, entry).await.unwrap();
    }
    let page = async |from| {
        client.read(&jobs).key("rare").from(from).wait(Duration::from_secs(20)).page().await.unwrap()
    };
    let first = page(ReadFrom::Start).await;
    assert!(first.items.is_empty() && !first.at_end);
    assert_eq!(first.cursor.positions[0].next.0, 17, "it looked at 16 MiB");
    let second = page(ReadFrom::Cursor(first.cursor)).await;
    assert_eq!((second.items.len(), second.at_end), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_waits_for_what_comes_and_ends_when_nothing_does() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    let (reading, writing) = (client.clone(), client.clone());
    let waiting = tokio::spawn(async move {
        reading.read(topic("jobs")).from(ReadFrom::Now).wait(Duration::from_secs(20)).page().await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    writing.append(&jobs, "late").await.unwrap();
    assert_eq!(entries(&waiting.await.unwrap().unwrap().items), ["late"]);
    let page = client.read(&jobs).from(ReadFrom::Now).wait(Duration::from_millis(50)).page().await.unwrap();
    assert!(page.items.is_empty() && page.at_end);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tails_see_every_entry_once_and_in_order() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    client.append(&jobs, "0").await.unwrap();
    let mut tails = Vec::new();
    // A thousand on fifty connections are what `conveyor bench fan-out` has; unoptimised they take twenty seconds here.
    for _ in 0..5 {
        let client = peer.client().await;
        for _ in 0..20 {
            let mut reader = client.read(&jobs).follow(true).stream();
            tails.push(tokio::spawn(async move { payloads(&mut reader, 50).await }));
        }
    }
    for number in 1..50 {
        client.append(&jobs, format!("{number}")).await.unwrap();
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for tail in tails {
        assert_eq!(tail.await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_found_by_their_ids_and_ids_that_lead_nowhere_say_so() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    client.append(&jobs, "one").await.unwrap();
    client.append(&jobs, "two").await.unwrap();
    let mut reader = client.read(&jobs).stream();
    let Some(Ok(Item::Entry(first))) = reader.next().await else { panic!("no entry") };
    let short = first.to_string();
    assert!(short.starts_with("jobs/alpha."), "{short}");
    let ids = [short.clone(), short.replace("/1", "/2"), short.replace("/1", "/3")];
    let ids: Vec<EntryRef> = ids.iter().map(|id| EntryRef::parse(id).unwrap()).collect();
    let found = client.get(&ids, None).await.unwrap();
    assert_eq!(found[0].as_ref(), Ok(&first));
    assert_eq!(found[1].as_ref().unwrap().entry.payload, "two");
    assert!(matches!(found[2], Err(ReadError::IdAhead { .. })), "{:?}", found[2]);
    let waiting = {
        let (client, ids) = (client.clone(), ids.clone());
        tokio::spawn(async move { client.get(&ids[2..], Some(Duration::from_secs(20))).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.append(&jobs, "three").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap()[0].as_ref().unwrap().entry.payload, "three");
    let from_two = client.read(&jobs).from(ReadFrom::Id(ids[1].clone())).page().await.unwrap();
    assert_eq!(entries(&from_two.items), ["two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_of_other_places_and_topics_that_are_not_there_are_typed_errors() {
    let peer = Peer::start();
    let client = peer.client().await;
    let page = client.read(topic("nowhere")).page().await;
    assert_eq!(page, Err(ClientError::Read(ReadError::TopicUnknown { topic: topic("nowhere") })));
    let stream = client.read(topic("nowhere")).stream().next().await;
    assert!(matches!(stream, Some(Err(ClientError::Read(ReadError::TopicUnknown { .. })))));
    client.append(&topic("a"), "x").await.unwrap();
    client.append(&topic("b"), "x").await.unwrap();
    let of_a = client.read(topic("a")).page().await.unwrap().cursor;
    let at_b = client.read(topic("b")).from(ReadFrom::Cursor(of_a.clone())).page().await;
    assert!(matches!(at_b, Err(ClientError::Read(ReadError::Cursor(_)))), "{at_b:?}");
    let elsewhere = Peer::start();
    let other = elsewhere.client().await;
    other.append(&topic("a"), "x").await.unwrap();
    let of_other = other.read(topic("a")).page().await.unwrap().cursor;
    let of_other = client.read(topic("a")).from(ReadFrom::Cursor(of_other)).page().await;
    let Err(ClientError::Read(ReadError::Cursor(error))) = of_other else { panic!("{of_other:?}") };
    assert!(matches!(error, CursorError::Cluster { .. }), "{error}");
    let mut twice = of_a;
    twice.positions.push(twice.positions[0]);
    let at_a = client.read(topic("a")).from(ReadFrom::Cursor(twice)).page().await;
    assert!(matches!(at_a, Err(ClientError::Read(ReadError::Cursor(_)))), "{at_a:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_status_are_told_and_changed() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    let settings = conveyor::base::TopicSettings::default();
    client.change_topic(TopicChange::Create { topic: jobs.clone(), settings }).await.unwrap();
    let again = client.change_topic(TopicChange::Create { topic: jobs.clone(), settings }).await;
    assert!(matches!(again, Err(ClientError::Topic(_))));
    client.append(&jobs, "x").await.unwrap();
    let topics = client.topics().await.unwrap();
    assert_eq!(topics.len(), 1);
    let log = &client.topic(&jobs).await.unwrap().unwrap().logs[0];
    assert_eq!((log.start.0, log.until.0), (1, 2));
    assert_eq!(client.topic(&topic("other")).await.unwrap(), None);
    let status = client.status().await.unwrap();
    assert_eq!((status.topic_count, status.connection_count), (1, 1));
    client.accept_clock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_batches_verify_and_are_recognised_when_they_come_back() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    for number in 0..20 {
        client.append(&jobs, format!("{number}")).await.unwrap();
    }
    let mut batches = client.batches(&jobs, ReadFrom::Start);
    let mut entry_count = 0;
    while let Some(exported) = batches.next().await {
        let Exported::Batch(signed) = exported.unwrap() else { panic!("no batch") };
        entry_count += signed.batch.statement().entry_count;
        assert_eq!(client.import(signed.certificate, &jobs, &signed.batch).await, Ok(Imported::Held));
    }
    assert_eq!(entry_count, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_damaged_of_a_topic_is_told_however_much_it_is_and_any_of_it_can_be_declared_lost() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    client.append(&jobs, Entry::from("first")).await.unwrap();
    let log = peer.handle.store().logs().into_iter().find(|log| log.dir.ends_with("jobs")).unwrap();
    let run = log.look().runs[0].id;
    let range = |n: u64| (run, Seq(2 + 2 * n), Seq(3 + 2 * n));
    let all: Vec<(RunId, Seq, Seq)> = (0..10_000).map(range).collect();
    let damaged = all.iter().map(|(run, from, until)| Range { run: *run, from: *from, until: *until });
    log.change().damaged = damaged.collect();
    let told = async || client.topic(&jobs).await.unwrap().unwrap().logs;
    let logs = told().await;
    assert_eq!((logs.len(), logs[0].damaged_count), (1, 10_000));
    assert!(logs[0].damaged == all && logs[0].lost.is_empty());
    let (run, from, until) = all[9_999];
    let lost = TopicChange::Lost { topic: jobs.clone(), peer: logs[0].peer, run, from, until };
    client.change_topic(lost).await.unwrap();
    let logs = told().await;
    assert!(logs[0].damaged == all[..9_999] && logs[0].lost == all[9_999..]);
    let listed = client.topics().await.unwrap();
    assert_eq!((listed[0].logs[0].damaged.len(), listed[0].logs[0].damaged_count), (16, 9_999));
}
