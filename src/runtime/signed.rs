//! Checks of what other peers say is signed, where it comes in: whoever sends much that is not waits for that alone.
use crate::base::limits::FORKS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Fork, Head, Lost, PeerId, Signature, Signed};
use crate::identity::trust::Trust;
use crate::log::Store;
use crate::runtime::shared::lock;
use crate::wire::peer::{LogSummary, PeerMessage};
use std::sync::{Arc, Mutex};

/// Signatures that were good and are known again, at most.
const KNOWN_MAX: usize = 8 << 10;

/// Checks in a row before others have their turn: some 1 ms.
const IN_A_ROW: usize = 16;

/// What checks statements that come from others.
pub(super) struct Checks {
    store: Arc<Store>,
    trust: Arc<dyn Trust>,
    known: Mutex<Known>,
}

impl Checks {
    pub(super) fn new(store: Arc<Store>, trust: Arc<dyn Trust>) -> Self {
        Self { store, trust, known: Mutex::default() }
    }

    /// What is left of a message: nothing that was not signed by whom it names, or who may sign it in that one's place.
    pub(super) async fn of(&self, message: PeerMessage) -> Option<PeerMessage> {
        match message {
            PeerMessage::Head(h, s) => self.is_head(&h, &s).then_some(PeerMessage::Head(h, s)),
            PeerMessage::Lost(l, s) => self.is_lost(&l, &s).then_some(PeerMessage::Lost(l, s)),
            PeerMessage::Fork(fork) => self.is_fork(&fork).then_some(PeerMessage::Fork(fork)),
            PeerMessage::Certificate { peer, der } => {
                let is_its = self.trust.peer_of(&der).is_ok_and(|(named, _)| named == peer);
                is_its.then_some(PeerMessage::Certificate { peer, der })
            }
            PeerMessage::Logs { mut held, ask } => {
                let mut in_a_row = 0;
                for summary in &mut held {
                    self.check_summary(summary, &mut in_a_row).await;
                }
                Some(PeerMessage::Logs { held, ask })
            }
            message => Some(message),
        }
    }

    /// A message may have very many summaries with one statement each: those are counted together.
    async fn check_summary(&self, summary: &mut LogSummary, in_a_row: &mut usize) {
        let log = summary.log;
        summary.forks.truncate(FORKS_MAX);
        keep(&mut summary.heads, 1, in_a_row, |(h, s)| h.log == log && self.is_head(h, s)).await;
        keep(&mut summary.lost, 1, in_a_row, |(l, s)| l.log == log && self.is_lost(l, s)).await;
        keep(&mut summary.forks, 2, in_a_row, |fork| fork.log() == log && self.is_fork(fork)).await;
    }

    /// A head is signed by the log's own peer, or by any who was named to succeed that.
    fn is_head(&self, head: &Head, signature: &Signature) -> bool {
        let peer = head.log.peer;
        let mut by = vec![peer];
        by.extend(self.store.successors_of(&peer));
        planted::is(Bug::TrimsUnsigned) || self.is_signed(&by, head, signature)
    }

    /// The same of what is said to be lost, which names its signer.
    fn is_lost(&self, lost: &Lost, signature: &Signature) -> bool {
        let (signer, peer) = (lost.signer, lost.log.peer);
        let may_say = signer == peer || self.store.successors_of(&peer).contains(&signer);
        may_say && self.is_signed(&[signer], lost, signature)
    }

    /// Both batches of a fork are signed.
    fn is_fork(&self, fork: &Fork) -> bool {
        let is_signed = |(statement, signature): &(_, Signature)| {
            self.is_signed(&[Signed::signer(statement)], statement, signature)
        };
        fork.sides().iter().all(is_signed)
    }

    /// Whether any of these signed a statement. Who is known to have is not checked again, nor anybody before.
    fn is_signed(&self, by: &[PeerId], statement: &impl Signed, signature: &Signature) -> bool {
        let message = statement.message();
        let key_of = |by: PeerId| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&by.0).update(&signature.0).update(&message);
            *hasher.finalize().as_bytes()
        };
        // Digests are made before others are kept from the list.
        let keys: Vec<[u8; 32]> = by.iter().copied().map(key_of).collect();
        let is_known = |keys: &[[u8; 32]]| {
            let known = lock(&self.known);
            keys.iter().any(|key| known.has(key))
        };
        if is_known(&keys) {
            return true;
        }
        let signer = by.iter().position(|by| self.trust.verify(*by, &message, signature));
        signer.inspect(|at| lock(&self.known).add(keys[*at])).is_some()
    }
}

/// Keeps what `is_good` says after so many checks of each, and lets others have their turn between.
async fn keep<T>(all: &mut Vec<T>, checks: usize, in_a_row: &mut usize, is_good: impl Fn(&T) -> bool) {
    let mut good = Vec::with_capacity(all.len());
    for one in std::mem::take(all) {
        if *in_a_row + checks > IN_A_ROW {
            *in_a_row = 0;
            tokio::task::yield_now().await;
        }
        *in_a_row += checks;
        if is_good(&one) {
            good.push(one);
        }
    }
    *all = good;
}

/// Digests of what was checked and good: each has one place, which a later one may take.
#[derive(Debug, Default)]
struct Known(Vec<[u8; 32]>);

impl Known {
    fn place(key: &[u8; 32]) -> usize {
        usize::from(u16::from_le_bytes([key[0], key[1]])) % KNOWN_MAX
    }

    fn has(&self, key: &[u8; 32]) -> bool {
        self.0.get(Self::place(key)) == Some(key)
    }

    fn add(&mut self, key: [u8; 32]) {
        self.0.resize(KNOWN_MAX, [0; 32]);
        self.0[Self::place(&key)] = key;
    }
}

#[cfg(test)]
mod tests;
