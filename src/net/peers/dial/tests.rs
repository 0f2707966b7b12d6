use super::*;

fn dialler(join: &[&str]) -> Dialler {
    Dialler::new(&join.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>())
}

fn known(store: u64, dials_us: bool) -> Known {
    let address = SocketAddr::from(([10, 0, (store >> 8) as u8, store as u8], 1));
    Known { store: StoreId(store), address, dials_us }
}

#[tokio::test(start_paused = true)]
async fn an_address_rests_while_its_store_is_connected_and_is_asked_less_often_when_it_fails() {
    let dialler = dialler(&["a:1"]);
    let (start, store) = (now(), StoreId(7));
    let due_at = |at, connected| dialler.due(at, |found| connected && found == store);
    assert_eq!(due_at(start, true), ["a:1"], "nobody knows yet who is there");
    assert!(due_at(start, true).is_empty(), "it is being dialled");
    dialler.ended(start, "a:1", Attempt::Elsewhere(store), 1.0);
    assert!(due_at(start + PAUSE_MAX, true).is_empty());
    assert_eq!(due_at(start + PAUSE_FIRST, false), ["a:1"]);
    let pauses = |attempt: &dyn Fn() -> Attempt, mut at: Instant| {
        let mut pauses = Vec::new();
        for _ in 0..8 {
            dialler.ended(at, "a:1", attempt(), 1.0);
            let begun = at;
            while due_at(at, false).is_empty() {
                at += LOOK;
            }
            pauses.push((at - begun).as_secs_f64().round());
        }
        pauses
    };
    let failed = || Attempt::Failed("silent".into());
    assert_eq!(pauses(&failed, start), [0.0, 1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
    let short = || Attempt::Over(store, Duration::from_secs(1));
    assert_eq!(pauses(&short, start + FORGET)[..3], [10.0; 3], "sessions that end at once are no success");
    let long = || Attempt::Over(store, SESSION_MIN);
    assert_eq!(pauses(&long, start + 2 * FORGET)[1..], [0.0; 7]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_from_where_a_peer_is_reached_is_known() {
    let dialler = dialler(&["a:1", "10.0.0.9:1"]);
    let knows = |address: &str| dialler.knows(address.parse().unwrap());
    assert!(knows("10.0.0.9:1") && knows("[::ffff:10.0.0.9]:1"), "however the socket writes it");
    assert!(!knows("10.0.0.9:2") && !knows("10.0.0.8:1"), "a client beside it");
    dialler.resolved("a:1", &["[::ffff:10.0.0.8]:1".parse().unwrap()]);
    assert!(knows("10.0.0.8:1"), "what the name stands for");
    dialler.learn(&[known(7, false)]);
    assert!(knows("10.0.0.7:1"), "of whom gossip told");
}

#[tokio::test(start_paused = true)]
async fn so_many_are_dialled_at_once_and_sessions_do_not_count() {
    let all: Vec<String> = (0..100).map(|port| format!("a:{port}")).collect();
    let dialler = Dialler::new(&all);
    let first = dialler.due(now(), |_| false);
    assert_eq!(first.len(), DIALLING_MAX);
    assert!(dialler.due(now(), |_| false).is_empty());
    let store = |address: &str| StoreId(address[2..].parse().unwrap());
    first.iter().for_each(|address| dialler.reached(address, store(address)));
    let next = dialler.due(now(), |_| true);
    assert_eq!(next.len(), DIALLING_MAX, "they are connected, and others have their turn");
    assert!(next.iter().all(|address| !first.contains(address)));
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_longest_come_first_and_those_to_join_before_all() {
    let dialler = dialler(&["z:1"]);
    dialler.learn(&(0..100).map(|store| known(store, false)).collect::<Vec<_>>());
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..5 {
        time::advance(PAUSE_MAX).await;
        let due = dialler.due(now(), |_| false);
        assert_eq!(due[0], "z:1", "in round {round}");
        due.iter().for_each(|address| {
            dialler.ended(now(), address, Attempt::Failed("silent".into()), 0.0);
            seen.insert(address.clone());
        });
    }
    assert_eq!(seen.len(), 101, "none is passed over for ever");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_gossip_lost_is_dialled_for_a_day_after_it_was_heard_of_last() {
    let dialler = dialler(&[]);
    let (one, is_connected) = (known(1, true), |connected| move |_: StoreId| connected);
    dialler.learn(&[one]);
    assert!(dialler.due(now(), is_connected(false)).is_empty(), "it is the other one's turn");
    for _ in 0..30 {
        time::advance(Duration::from_secs(3600)).await;
        dialler.learn(&[one]);
        assert!(dialler.due(now(), is_connected(true)).is_empty());
    }
    // Cut off: gossip hears of it no more, and whose turn it was counts for nothing.
    dialler.learn(&[]);
    time::advance(Duration::from_secs(23 * 3600)).await;
    dialler.learn(&[]);
    assert_eq!(dialler.due(now(), is_connected(false)), [one.address.to_string()]);
    dialler.ended(now(), &one.address.to_string(), Attempt::Failed("silent".into()), 0.0);
    time::advance(Duration::from_secs(2 * 3600)).await;
    dialler.learn(&[]);
    assert!(dialler.due(now(), is_connected(false)).is_empty(), "after a day it is forgotten");
}
