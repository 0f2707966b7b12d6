//! Stories told by hand: what each seed may do is a verb of [`Stack`].
use crate::cluster::check::books;
use crate::cluster::faults::Power;
use crate::cluster::life::{Life, spawn};
use crate::cluster::lock;
use crate::cluster::model::{Fact, payload};
use crate::whole::seen::Seen;
use crate::whole::tail::Tail;
use crate::whole::user::User;
use crate::whole::weather::Weather;
use crate::whole::writer::{Habits, Writer};
use crate::whole::{Setup, Stack, address, check, run, topics};
use conveyor::base::planted::Bug;
use conveyor::base::{Durability, Entry, TopicName};
use conveyor::client::{ProducerOptions, Receipt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HABITS: Habits = Habits { pause_ms: 100, burst_max: 3, wants_copies: false };

/// Seconds, which take no time.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Tells a story in which all must hold.
fn tell<F: Future<Output = ()>>(
    seed: u64,
    peers: usize,
    story: impl Fn(Arc<Stack>) -> F + Send + Copy + 'static,
) {
    let report = run(seed, Setup::peers(peers), story);
    assert_eq!(report.failure, None, "{:#?}", report.last);
}

/// Tells it once more with a bug put in, which must break a promise.
fn tell_and_plant<F: Future<Output = ()>>(
    seed: u64,
    peers: usize,
    planted: &[(Bug, &str)],
    story: impl Fn(Arc<Stack>) -> F + Send + Copy + 'static,
) {
    tell(seed, peers, story);
    for (bug, promise) in planted {
        let report = run(seed, Setup { bug: Some(*bug), ..Setup::peers(peers) }, story);
        let failure = report.failure.unwrap_or_default();
        assert!(
            failure.contains(promise),
            "{bug:?} does not break {promise}: {failure:?}, {:#?}",
            report.last
        );
    }
}

/// A program that follows a topic, told of these peers, and what it is given.
fn follow(stack: &Arc<Stack>, topic: &TopicName, peers: Vec<usize>) -> (TopicName, Arc<Mutex<Seen>>) {
    let (tail, seen) = Tail::new(User::new(stack, peers), topic.clone());
    spawn(&stack.recorder, tail.work());
    (topic.clone(), seen)
}

/// A program that appends, told of these peers, until its host ends.
fn write(stack: &Arc<Stack>, peers: Vec<usize>) -> Arc<Life> {
    let user = User::new(stack, peers);
    let life = user.life.clone();
    user.spawn_self(|user| Writer::new(user, HABITS).work());
    life
}

/// Everything must hold by now, or soon.
async fn check_all(stack: &Arc<Stack>, tails: &[(TopicName, Arc<Mutex<Seen>>)]) {
    check::check_converges(stack).await;
    let readers = check::one_client_each(stack).await;
    check::check_all(stack, &readers, tails).await;
}

#[test]
fn a_tail_whose_peer_dies_goes_on_at_another_with_nothing_twice_and_nothing_passed_over() {
    let planted = [(Bug::FailsOverToTheStart, "P5"), (Bug::FailsOverPastTheRest, "P5")];
    tell_and_plant(1, 3, &planted, |stack| async move {
        stack.start_all().await;
        let mut user = User::new(&stack, vec![1]);
        let client = user.connect().await;
        let mut tails = Vec::new();
        for topic in topics() {
            tails.push(follow(&stack, &topic, vec![0, 1, 2]));
        }
        for round in 0..4 {
            for topic in topics() {
                append_many(&stack, &client, &topic, 40).await;
            }
            pass(1).await;
            // Whoever had them goes on at 1 or 2, and then at 0 again.
            stack.crash([0, 2][round % 2], Power::Lost).await;
            for topic in topics() {
                append_many(&stack, &client, &topic, 40).await;
            }
            pass(20).await;
            stack.start_all().await;
        }
        check_all(&stack, &tails).await;
    });
}

/// Appends so many entries at once, and waits until all are acknowledged.
async fn append_many(stack: &Arc<Stack>, client: &conveyor::client::Client, topic: &TopicName, count: u64) {
    let producer = client.producer(topic, ProducerOptions::default()).await.unwrap();
    let mut receipts: Vec<(u64, Receipt)> = Vec::new();
    for _ in 0..count {
        let nonce = lock(&stack.model).attempt();
        receipts.push((nonce, producer.send(payload(nonce)).await.unwrap()));
    }
    for (nonce, receipt) in receipts {
        let told = receipt.await.unwrap();
        let host = stack.host_of(&told.id.peer).unwrap();
        let fact = Fact { nonce, time: told.time };
        let mut model = lock(&stack.model);
        model.tell(nonce, [told.id.peer].into_iter().chain(told.may_also_be_at.iter().copied()));
        model.acknowledge(told.id, fact, Durability::Fsync, host);
    }
}

#[test]
fn whoever_goes_on_at_another_peer_is_told_what_may_be_there_twice() {
    tell_and_plant(8, 3, &[(Bug::DoublesUntold, "P5")], |stack| async move {
        stack.start_all().await;
        let topic = &topics()[0];
        let mut user = User::new(&stack, vec![0, 1]);
        let (host, client) = (user.host, user.connect().await);
        append_many(&stack, &client, topic, 5).await;
        // What 0 takes from now on nobody hears of: not the client, and no other peer.
        let from_0 = [host, address(1).ip(), address(2).ip()].map(|to| (address(0).ip(), to));
        stack.udp.close(from_0.into());
        append_many(&stack, &client, topic, 5).await;
        stack.udp.close(BTreeSet::new());
        check::check_converges(&stack).await;
        let books = books(stack.live(1).unwrap().handle.store(), stack.topic_id(topic));
        assert_eq!(books.len(), 2, "both took them: {books:?}");
        check_all(&stack, &[]).await;
    });
}

#[test]
fn gossip_goes_on_when_a_peer_is_lost_and_hears_of_it_again() {
    tell_and_plant(2, 4, &[(Bug::GossipEndsWithALostPeer, "P4")], |stack| async move {
        stack.start_all().await;
        check::check_converges(&stack).await;
        stack.crash(3, Power::Lost).await;
        pass(30).await;
        stack.start_all().await;
        check_all(&stack, &[]).await;
    });
}

#[test]
fn peers_of_two_halves_go_on_alone_and_end_with_the_same() {
    tell(3, 5, |stack| async move {
        stack.start_all().await;
        let writers: Vec<Arc<Life>> = (0..5).map(|peer| write(&stack, vec![peer])).collect();
        let tails = topics().map(|topic| follow(&stack, &topic, vec![4, 0]));
        pass(5).await;
        let half = |host: usize| host < 2;
        let pairs = (0..5).flat_map(|a| (0..5).map(move |b| (a, b))).filter(|(a, b)| half(*a) != half(*b));
        let ways: BTreeSet<_> = pairs.map(|(a, b)| (address(a).ip(), address(b).ip())).collect();
        stack.udp.close(ways);
        pass(40).await;
        stack.udp.close(BTreeSet::new());
        pass(2).await;
        writers.iter().for_each(|life| life.end());
        check_all(&stack, &tails).await;
    });
}

#[test]
fn an_append_of_which_the_rest_is_held_up_for_long_is_sent_again() {
    tell(4, 3, |stack| async move {
        stack.start_all().await;
        let mut user = User::new(&stack, vec![0]);
        let (host, client) = (user.host, user.connect().await);
        // Some 40 KB come within two seconds, and the rest ten seconds later, while the connection lives.
        stack.udp.set_weather(Weather { bytes_per_s: 20_000, ..Weather::FAIR });
        let topic = topics()[0].clone();
        let producer = client.producer(&topic, ProducerOptions::default()).await.unwrap();
        let sent = producer.send(Entry::from(vec![7; 200_000])).await.unwrap();
        pass(2).await;
        stack.udp.clog([(host, address(0).ip())].into());
        pass(11).await;
        stack.udp.clog(BTreeSet::new());
        stack.udp.set_weather(Weather::FAIR);
        let is_there = tokio::time::timeout(Duration::from_secs(60), sent).await;
        assert!(matches!(is_there, Ok(Ok(_))), "{is_there:?}");
    });
}

#[test]
fn clients_behind_a_router_that_forgets_them_keep_their_connections() {
    tell(5, 3, |stack| async move {
        stack.start_all().await;
        let mut user = User::new(&stack, vec![0]);
        let (host, client) = (user.host, user.connect().await);
        check::check_converges(&stack).await;
        let accepted = || stack.live(0).unwrap().connections_accepted();
        let before = accepted();
        for _ in 0..5 {
            for topic in topics() {
                append_many(&stack, &client, &topic, 10).await;
            }
            stack.udp.rebind(host);
            pass(3).await;
        }
        assert_eq!(accepted(), before, "the client's connection moved with its port");
        check_all(&stack, &[]).await;
    });
}

/// Bytes of an entry of those that are caught up with.
const LARGE_BYTES: usize = 256 << 10;

/// How many entries of a topic a peer holds.
fn held(stack: &Stack, host: usize, topic: &TopicName) -> u64 {
    let books = books(stack.live(host).unwrap().handle.store(), stack.topic_id(topic));
    books.values().flat_map(|ranges| ranges.iter()).map(|(from, until)| until.since(from)).sum()
}

/// Bytes a second at which `behind`, whose disk is empty, takes what the other one of two peers has, in such weather: over three
/// quarters of it, since the first quarter is there before QUIC has found how much the way carries.
async fn catches_up(stack: &Arc<Stack>, behind: usize, weather: Weather, mib: u64) -> u64 {
    let topic = &topics()[0];
    let source = 1 - behind;
    assert!(stack.start(source).await);
    let client = User::new(stack, vec![source]).connect().await;
    let producer = client.producer(topic, ProducerOptions::default()).await.unwrap();
    let count = mib * (1 << 20) / LARGE_BYTES as u64;
    let mut last = None;
    for _ in 0..count {
        last = Some(producer.send(Entry::from(vec![7; LARGE_BYTES])).await.unwrap());
    }
    last.unwrap().await.unwrap();
    stack.udp.set_weather(weather);
    assert!(stack.start(behind).await);
    let held = || held(stack, behind, topic);
    let (first, began) = loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if held() >= count / 4 {
            break (held(), tokio::time::Instant::now());
        }
    };
    while held() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (count - first) * LARGE_BYTES as u64 * 1_000 / began.elapsed().as_millis() as u64
}

#[test]
fn catching_up_over_a_long_link_is_as_fast_as_the_link() {
    let far = Weather { latency_ms: 25, ..Weather::FAIR };
    // Whichever of the two dialled.
    for behind in [0, 1] {
        let rates = [Weather::FAIR, far].map(|weather| {
            let rate = Arc::new(Mutex::new(0));
            let taken = rate.clone();
            let report = run(6, Setup::peers(2), move |stack| async move {
                *lock(&taken) = catches_up(&stack, behind, weather, 96).await;
            });
            assert_eq!(report.failure, None, "{:#?}", report.last);
            *lock(&rate)
        });
        let [near, far] = rates;
        let link = Weather::FAIR.bytes_per_s;
        assert!(near * 10 >= link * 6, "{near} bytes a second over a link of {link}");
        assert!(far * 10 >= near * 6, "{far} bytes a second with 50 ms both ways, {near} with 2");
    }
}

#[test]
fn large_entries_come_over_a_slow_link() {
    tell(7, 2, |stack| async move {
        let topic = &topics()[0];
        assert!(stack.start(0).await);
        let client = User::new(&stack, vec![0]).connect().await;
        let producer = client.producer(topic, ProducerOptions::default()).await.unwrap();
        for _ in 0..4 {
            producer.send(Entry::from(vec![7; 15 << 20])).await.unwrap().await.unwrap();
        }
        stack.udp.set_weather(Weather { latency_ms: 20, bytes_per_s: 1_000_000, ..Weather::FAIR });
        assert!(stack.start(1).await);
        // They are on their way for 63 s, and asked for again meanwhile.
        pass(180).await;
        assert_eq!(held(&stack, 1, topic), 4);
    });
}
