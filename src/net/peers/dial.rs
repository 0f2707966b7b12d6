//! Whom to dial, and when again.
//!
//! An address that was given to join stays for ever and is resolved anew each time, so that a cluster comes together
//! again after all its peers got other addresses. One that gossip told of is dialled for a day after its peer was heard of last:
//! two parts of a cluster that were cut off find each other again, also where nobody was told to join the other part. While
//! the store that was found there has a session, it rests.
use crate::base::StoreId;
use crate::net::peers::greet::GreetError;
use crate::net::peers::{NOT_A_PEER, Peers, Running, lock};
use crate::quic::socket;
use crate::wire::greeting::Declined;
use std::collections::BTreeMap;
use std::net::SocketAddr;
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
/// How often it is looked for the session of a connection that was dialled the other way meanwhile.
const LOOKS: usize = 20;
/// How long an address rests that is this peer's own.
const OWN_PAUSE: Duration = Duration::from_secs(300);
/// A session that lasted so long was one: behind a shorter one the pauses go on growing.
const SESSION_MIN: Duration = Duration::from_secs(30);
/// How often it is said again that an address cannot be reached.
const TELL_AGAIN: Duration = Duration::from_secs(300);
/// Attempts under way at most.
const DIALLING_MAX: usize = 32;
/// How long an address is dialled after gossip heard of its peer last: longer than networks are cut.
const FORGET: Duration = Duration::from_secs(24 * 3600);
/// Addresses that are kept.
const TARGETS_MAX: usize = 2_000;
/// Addresses of one host name that are tried.
const RESOLVED_MAX: usize = 8;

/// Addresses to dial.
pub(super) struct Dialler {
    targets: Mutex<BTreeMap<String, Target>>,
    /// Connections dialled since the start.
    number: AtomicU64,
}

/// One of them.
#[derive(Debug, Clone)]
struct Target {
    due: Instant,
    pause: Duration,
    /// Whether an attempt is under way, up to a session or its failure.
    is_dialling: bool,
    /// Which store was found there.
    found: Option<StoreId>,
    /// Why it was not reached the last time.
    trouble: Option<String>,
    /// When that was said last.
    told: Option<Instant>,
    /// For one that gossip told of: until when it is dialled.
    forget: Option<Instant>,
    /// Whether it is the other side's turn to dial.
    holds_back: bool,
    /// What its host name was last found to stand for.
    resolved: Vec<SocketAddr>,
}

impl Target {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            pause: PAUSE_FIRST,
            is_dialling: false,
            found: None,
            trouble: None,
            told: None,
            forget: None,
            holds_back: false,
            resolved: Vec::new(),
        }
    }
}

/// A peer that gossip tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) store: StoreId,
    pub(super) address: SocketAddr,
    /// Whether it is its turn to dial.
    pub(super) dials_us: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    /// There was a session for so long.
    Over(StoreId, Duration),
    /// There is a session over another connection.
    Elsewhere(StoreId),
    /// It is this peer's own address.
    Own,
    Failed(String),
}

impl Dialler {
    pub(super) fn new(join: &[String]) -> Self {
        let targets = join.iter().map(|address| (address.clone(), Target::new(now()))).collect();
        Self { targets: Mutex::new(targets), number: AtomicU64::new(0) }
    }

    /// Takes note of those that gossip hears of now, whether or not there is a session with them.
    pub(super) fn learn(&self, known: &[Known]) {
        let mut targets = lock(&self.targets);
        let now = now();
        targets.retain(|_, target| target.is_dialling || target.forget.is_none_or(|forget| now < forget));
        targets.values_mut().for_each(|target| target.holds_back = false);
        for Known { store, address, dials_us } in known {
            let address = address.to_string();
            if !targets.contains_key(&address) && targets.len() >= TARGETS_MAX {
                continue;
            }
            let target = targets.entry(address).or_insert_with(|| Target {
                forget: Some(now),
                found: Some(*store),
                ..Target::new(now)
            });
            target.forget = target.forget.map(|_| now + FORGET);
            target.holds_back = target.forget.is_some() && *dials_us;
        }
    }

    /// Whether this is the address of another peer, as far as is known: what comes from there is hardly a client.
    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let targets = lock(&self.targets);
        targets.contains_key(&address.to_string())
            || targets.values().any(|target| target.resolved.contains(&address))
    }

    fn resolved(&self, address: &str, found: &[SocketAddr]) {
        if let Some(target) = lock(&self.targets).get_mut(address) {
            let canonical = |found: &SocketAddr| SocketAddr::new(found.ip().to_canonical(), found.port());
            target.resolved = found.iter().map(canonical).collect();
        }
    }

    /// Addresses to dial now, those that were given before those that were learned, and what waited longest first; they count
    /// as being dialled.
    fn due(&self, now: Instant, is_connected: impl Fn(StoreId) -> bool) -> Vec<String> {
        let mut targets = lock(&self.targets);
        let under_way = targets.values().filter(|target| target.is_dialling).count();
        let is_due = |target: &Target| {
            let rests = target.is_dialling || target.holds_back || now < target.due;
            !rests && !target.found.is_some_and(&is_connected)
        };
        let mut due: Vec<_> = targets.iter_mut().filter(|(_, target)| is_due(target)).collect();
        due.sort_by_key(|(_, target)| (target.forget.is_some(), target.due));
        due.truncate(DIALLING_MAX.saturating_sub(under_way));
        let begin = |(address, target): (&String, &mut Target)| {
            target.is_dialling = true;
            address.clone()
        };
        due.into_iter().map(begin).collect()
    }

    /// An attempt came to a session, which goes on.
    fn reached(&self, address: &str, store: StoreId) {
        if let Some(target) = lock(&self.targets).get_mut(address) {
            (target.is_dialling, target.found, target.trouble) = (false, Some(store), None);
        }
    }

    fn ended(&self, now: Instant, address: &str, attempt: Attempt, jitter: f64) {
        let mut targets = lock(&self.targets);
        let Some(target) = targets.get_mut(address) else { return };
        target.is_dialling = false;
        let longer = (target.pause * 2).min(PAUSE_MAX);
        let pause = match attempt {
            Attempt::Over(store, lasted) => {
                (target.found, target.trouble) = (Some(store), None);
                let next = if lasted >= SESSION_MIN { PAUSE_FIRST } else { longer };
                std::mem::replace(&mut target.pause, next)
            }
            Attempt::Elsewhere(store) => {
                (target.found, target.trouble, target.pause) = (Some(store), None, PAUSE_FIRST);
                PAUSE_FIRST
            }
            Attempt::Own => OWN_PAUSE,
            Attempt::Failed(trouble) => {
                let is_due = target.told.is_none_or(|told| now.duration_since(told) >= TELL_AGAIN);
                if target.trouble.as_ref() != Some(&trouble) || is_due {
                    target.told = Some(now);
                    tracing::warn!(address, %trouble, "a peer cannot be reached; it is tried again and again");
                }
                (target.trouble, target.found) = (Some(trouble), None);
                std::mem::replace(&mut target.pause, longer)
            }
        };
        target.due = now + pause.mul_f64(0.5 + jitter / 2.0);
    }
}

impl Peers {
    /// Dials whom there is no session with, until the peer stops.
    pub(super) async fn keep_dialling(self: Arc<Self>) {
        while let Some(running) = self.running() {
            self.part_with_removed(&running);
            let connected = self.connected_stores();
            for address in self.dialler.due(now(), |store| connected.contains(&store)) {
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

    /// Tries all that a name stands for, which may be several peers, and has a session with the first that it can have one with.
    async fn dial(self: &Arc<Self>, running: &Running, address: &str) -> Attempt {
        let found = match resolve(running, address).await {
            Ok(found) => found,
            Err(trouble) => return Attempt::Failed(trouble),
        };
        self.dialler.resolved(address, &found);
        let mut best = None;
        for to in found {
            let attempt = self.dial_one(running, address, to).await;
            // Of several addresses one's own says least, and a session elsewhere most.
            best = match (best, attempt) {
                (_, attempt @ Attempt::Over(..)) => return attempt,
                (Some(best @ Attempt::Elsewhere(_)), _) | (Some(best @ Attempt::Failed(_)), Attempt::Own) => {
                    Some(best)
                }
                (_, attempt) => Some(attempt),
            };
        }
        best.unwrap_or_else(|| Attempt::Failed("no such host".to_owned()))
    }

    /// Whether there is a session with a store, or will be in a moment.
    async fn comes(&self, store: StoreId) -> bool {
        for _ in 0..LOOKS {
            if self.session(store).is_some() {
                return true;
            }
            time::sleep(LOOK).await;
        }
        false
    }

    async fn dial_one(self: &Arc<Self>, running: &Running, address: &str, to: SocketAddr) -> Attempt {
        let number = self.dialler.number.fetch_add(1, Ordering::Relaxed) + 1;
        let declined = match self.greet(running, to, number).await {
            Ok(greeted) if running.handle.removal_of(&greeted.other.peer).is_some() => {
                greeted.connection.close(NOT_A_PEER, b"the peer was removed from the cluster");
                return Attempt::Failed(format!("{} was removed from the cluster", greeted.other.name));
            }
            Ok(greeted) => {
                let (store, began) = (greeted.other.store, now());
                self.dialler.reached(address, store);
                match self.hold(running, greeted).await {
                    Ok(()) => return Attempt::Over(store, began.elapsed()),
                    Err(declined) => declined,
                }
            }
            Err(GreetError::Declined(declined)) => declined,
            Err(error) => return Attempt::Failed(error.to_string()),
        };
        match declined {
            Declined::Oneself => Attempt::Own,
            // Both dialled at once: the other one's is on its way.
            Declined::Connected { store } if self.comes(store).await => Attempt::Elsewhere(store),
            declined => Attempt::Failed(GreetError::Declined(declined).to_string()),
        }
    }
}

fn now() -> Instant {
    Instant::now()
}

async fn resolve(running: &Running, address: &str) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> = match address.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?;
            found.take(RESOLVED_MAX).collect()
        }
    };
    let local = running.endpoint.local_addr().ok();
    Ok(found.into_iter().map(|address| socket::reach(local, address)).collect())
}

#[cfg(test)]
mod tests;
