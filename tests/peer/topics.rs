//! Topics: made, set, deleted, and what is refused where there is none.
use crate::{chunk, config, env, read, topic};
use conveyor::base::{Durability, Seq, TopicSettings};
use conveyor::disk::MemDisk;
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Handle, start};
use conveyor::wire::outcome::{AppendError, ReadFrom, TopicChange, TopicError};
use std::sync::Arc;

#[tokio::test]
async fn topics_are_made_set_deleted_and_survive_a_restart() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let settings = TopicSettings { durability: Durability::Buffered, ..TopicSettings::default() };
    let create = || TopicChange::Create { topic: topic("jobs"), settings };
    {
        let peer = crate::peer(disk);
        peer.change_topic(create()).await.unwrap();
        assert_eq!(peer.change_topic(create()).await, Err(TopicError::Exists { topic: topic("jobs") }));
        peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
        peer.append(topic("other"), None, chunk(&["x"], None)).await.unwrap();
    }
    let peer = crate::peer(control.crash_process());
    assert_eq!(peer.topic(&topic("jobs")).unwrap().settings, settings);
    let made = TopicChange::Create { topic: topic("made"), settings };
    peer.change_topic(made).await.unwrap();
    let listed = |peer: &Handle| {
        let topics = peer.topics();
        assert_eq!(peer.status().topic_count as usize, topics.len());
        topics.into_iter().map(|info| (info.name.to_string(), info.is_configured)).collect::<Vec<_>>()
    };
    let wanted = [("jobs", true), ("made", true), ("other", false)].map(|(name, is)| (name.to_owned(), is));
    assert_eq!(listed(&peer), wanted, "a change of one leaves the others");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["a"]);
    let cursor = {
        let reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
        reader.cursor()
    };
    let deleted = peer.change_topic(TopicChange::Delete { topic: topic("jobs") }).await.unwrap();
    assert_eq!(deleted.deleted.unwrap().until[0].2, Seq(2));
    assert_eq!(peer.topic(&topic("jobs")), None);
    let unknown = peer.change_topic(TopicChange::Delete { topic: topic("jobs") }).await;
    assert_eq!(unknown, Err(TopicError::Unknown { topic: topic("jobs") }));
    let appended = peer.append(topic("jobs"), None, chunk(&["b"], None)).await.unwrap();
    assert_eq!(appended.first_seq, Seq(2), "numbers never restart");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["b"]);
    assert_eq!(read(&peer, "jobs", ReadFrom::Cursor(cursor)).await, ["b"]);
    let wanted = [("jobs", false), ("made", true), ("other", false)].map(|(name, is)| (name.to_owned(), is));
    assert_eq!(listed(&peer), wanted);
}

#[tokio::test]
async fn without_auto_create_a_topic_that_was_deleted_takes_nothing_until_it_is_made_again() {
    let disk = MemDisk::new(1);
    let mut control = disk.control();
    let strict = |disk: MemDisk, auto_create: bool| {
        let signer = Ed25519Signer::from_seed(&[7; 32]);
        let mut config = config(&signer);
        config.node.auto_create = auto_create;
        start(env(disk), Arc::new(signer), config).unwrap().0
    };
    let unknown = || Err(AppendError::TopicUnknown { topic: topic("jobs") });
    let put = async |peer: &Handle| peer.append(topic("jobs"), None, chunk(&["x"], None)).await.map(drop);
    let mut peer = strict(disk, false);
    assert_eq!(put(&peer).await, unknown());
    let settings = TopicSettings::default();
    for _ in 0..2 {
        peer.change_topic(TopicChange::Create { topic: topic("jobs"), settings }).await.unwrap();
        put(&peer).await.unwrap();
        peer.change_topic(TopicChange::Delete { topic: topic("jobs") }).await.unwrap();
        assert_eq!(put(&peer).await, unknown());
        drop(peer);
        let disk = control.crash();
        control = disk.control();
        peer = strict(disk, false);
        assert_eq!(put(&peer).await, unknown(), "after a restart too");
    }
    // One that took entries again while it could is there.
    drop(peer);
    let disk = control.crash();
    control = disk.control();
    put(&strict(disk, true)).await.unwrap();
    put(&strict(control.crash(), false)).await.unwrap();
}
