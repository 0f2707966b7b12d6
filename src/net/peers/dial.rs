//! Whom to dial, and when again.
//!
//! An address that was given to join stays for ever and is resolved anew each time, so that a cluster comes together
//! again after all its peers got other addresses. One that gossip told of is dialled for a day after that: two parts of a
//! cluster that were cut off find each other again, also where nobody was told to join the other part. While the store that was found there has a session, it rests.
use crate::base::StoreId;
use crate::net::peers::greet::GreetError;
use crate::net::peers::{Peers, Running, lock};
use crate::wire::greeting::Declined;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{self, Instant};

/// The first pause behind an attempt that failed; each next one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the list is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long an address rests that is this peer's own.
const OWN_PAUSE: Duration = Duration::from_secs(300);
/// Attempts under way at most.
const DIALLING_MAX: usize = 32;

/// How long an address that gossip told of is dialled after it told of it last: longer than networks are cut.
const FORGET: Duration = Duration::from_secs(24 * 3600);
/// Addresses that are kept.
const TARGETS_MAX: usize = 2_000;

/// Addresses to dial.
pub(super) struct Dialler {
    targets: Mutex<BTreeMap<String, Target>>,
    /// Connections dialled since the start.
    number: AtomicU64,
}

/// One of them.
#[derive(Debug, Clone)]
struct Target {
    due: Option<Instant>,
    pause: Duration,
    is_dialling: bool,
    /// Which store was found there.
    found: Option<StoreId>,
    /// Why it was not reached the last time.
    trouble: Option<String>,
    /// For one that gossip told of: until when it is dialled though gossip tells of it no more.
    forget: Option<Instant>,
}

impl Target {
    fn new() -> Self {
        Self { due: None, pause: PAUSE_FIRST, is_dialling: false, found: None, trouble: None, forget: None }
    }
}

/// How an attempt ended.
enum Attempt {
    /// There was a session, which is over.
    Over(StoreId),
    /// There is a session over another connection.
    Elsewhere(StoreId),
    /// It is this peer's own address.
    Own,
    Failed(String),
}

impl Dialler {
    pub(super) fn new(join: &[String]) -> Self {
        let targets = join.iter().map(|address| (address.clone(), Target::new())).collect();
        Self { targets: Mutex::new(targets), number: AtomicU64::new(0) }
    }

    /// Takes note of stores that gossip told of and that have no session.
    pub(super) fn learn(&self, absent: Vec<(StoreId, SocketAddr)>) {
        let mut targets = lock(&self.targets);
        let now = now();
        targets.retain(|_, target| target.is_dialling || target.forget.is_none_or(|forget| now < forget));
        for (store, address) in absent {
            let address = address.to_string();
            if !targets.contains_key(&address) && targets.len() >= TARGETS_MAX {
                continue;
            }
            let target = targets.entry(address).or_insert_with(|| Target {
                forget: Some(now),
                found: Some(store),
                ..Target::new()
            });
            target.forget = target.forget.map(|_| now + FORGET);
        }
    }

    /// Addresses to dial now; they count as being dialled.
    fn due(&self, now: Instant, is_connected: impl Fn(StoreId) -> bool) -> Vec<String> {
        let mut targets = lock(&self.targets);
        let under_way = targets.values().filter(|target| target.is_dialling).count();
        let is_due = |target: &Target| {
            !target.is_dialling
                && target.due.is_none_or(|due| due <= now)
                && !target.found.is_some_and(&is_connected)
        };
        let due = targets.iter_mut().filter(|(_, target)| is_due(target));
        let mut begun = Vec::new();
        for (address, target) in due.take(DIALLING_MAX.saturating_sub(under_way)) {
            target.is_dialling = true;
            begun.push(address.clone());
        }
        begun
    }

    fn ended(&self, now: Instant, address: &str, attempt: Attempt, jitter: f64) {
        let mut targets = lock(&self.targets);
        let Some(target) = targets.get_mut(address) else { return };
        target.is_dialling = false;
        let pause = match attempt {
            Attempt::Over(store) | Attempt::Elsewhere(store) => {
                (target.found, target.pause, target.trouble) = (Some(store), PAUSE_FIRST, None);
                PAUSE_FIRST
            }
            Attempt::Own => OWN_PAUSE,
            Attempt::Failed(trouble) => {
                if target.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(address, %trouble, "a peer cannot be reached; it is tried again and again");
                }
                target.trouble = Some(trouble);
                target.found = None;
                let next = (target.pause * 2).min(PAUSE_MAX);
                std::mem::replace(&mut target.pause, next)
            }
        };
        target.due = Some(now + pause.mul_f64(0.5 + jitter / 2.0));
    }
}

impl Peers {
    /// Dials whom there is no session with, until the peer stops.
    pub(super) async fn keep_dialling(self: Arc<Self>) {
        while let Some(running) = self.running() {
            let is_connected = |store| self.session(store).is_some();
            for address in self.dialler.due(now(), is_connected) {
                let (peers, running) = (self.clone(), running.clone());
                let dialling = async move {
                    let attempt = peers.dial(&running, &address).await;
                    let jitter = peers.entropy.draw() as f64 / u64::MAX as f64;
                    peers.dialler.ended(now(), &address, attempt, jitter);
                };
                self.env.runtime.spawn(Box::pin(dialling));
            }
            drop(running);
            time::sleep(LOOK).await;
        }
    }

    async fn dial(self: &Arc<Self>, running: &Running, address: &str) -> Attempt {
        let found = match resolve(running, address).await {
            Ok(found) => found,
            Err(trouble) => return Attempt::Failed(trouble),
        };
        let mut trouble = "no such host".to_owned();
        for to in found {
            let number = self.dialler.number.fetch_add(1, Ordering::Relaxed) + 1;
            match self.greet(running, to, number).await {
                Ok(greeted) => {
                    let store = greeted.other.store;
                    return match self.hold(running, greeted).await {
                        Ok(()) => Attempt::Over(store),
                        Err(_) => Attempt::Elsewhere(store),
                    };
                }
                Err(GreetError::Declined(Declined::Oneself)) => return Attempt::Own,
                Err(GreetError::Declined(Declined::Connected { store })) if self.session(store).is_some() => {
                    return Attempt::Elsewhere(store);
                }
                Err(error) => trouble = error.to_string(),
            }
        }
        Attempt::Failed(trouble)
    }
}

fn now() -> Instant {
    Instant::now()
}

async fn resolve(running: &Running, address: &str) -> Result<Vec<SocketAddr>, String> {
    let found = match address.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?.take(8).collect()
        }
    };
    let is_v6 = running.endpoint.local_addr().is_ok_and(|local| local.is_ipv6());
    let reach = |address| match address {
        SocketAddr::V4(v4) if is_v6 => (IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()).into(),
        other => other,
    };
    Ok(found.into_iter().map(reach).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_rests_while_its_store_is_connected_and_is_asked_less_often_when_it_fails() {
        let dialler = Dialler::new(&["a:1".to_owned()]);
        let (start, store) = (now(), StoreId(7));
        let due_at = |at, connected| dialler.due(at, |found| connected && found == store);
        assert_eq!(due_at(start, true), ["a:1"], "nobody knows yet who is there");
        assert!(due_at(start, true).is_empty(), "it is being dialled");
        dialler.ended(start, "a:1", Attempt::Elsewhere(store), 1.0);
        assert!(due_at(start + PAUSE_MAX, true).is_empty());
        assert_eq!(due_at(start + PAUSE_FIRST, false), ["a:1"]);
        let mut at = start;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            dialler.ended(at, "a:1", Attempt::Failed("silent".into()), 1.0);
            let begun = at;
            while due_at(at, false).is_empty() {
                at += LOOK;
            }
            pauses.push((at - begun).as_secs_f64().round());
        }
        assert_eq!(pauses, [0.0, 1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_dialled_at_once() {
        let all: Vec<String> = (0..100).map(|port| format!("a:{port}")).collect();
        let dialler = Dialler::new(&all);
        assert_eq!(dialler.due(now(), |_| false).len(), DIALLING_MAX);
        dialler.ended(now(), "a:0", Attempt::Own, 0.5);
        let next = dialler.due(now(), |_| false);
        assert_eq!(next.len(), 1);
        assert_ne!(next[0], "a:0", "its own address rests");
    }
}
