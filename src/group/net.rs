//! Who hands out whose entries, as this peer sees it.
//!
//! A log's own peer does while we are connected to it. Else it is the one of those connected, and ourselves, whose key and the
//! log's together have the highest hash: peers that are connected to the same others choose the same one, with no talk. One that
//! says that it does not hand out that log, since it is connected to its peer itself, is passed over for a while.
use crate::base::PeerId;
use std::collections::{BTreeMap, BTreeSet};

/// How long a peer is passed over that said it does not hand out a log, in milliseconds.
const REFUSED_MS: u64 = 60_000;

/// The peers.
#[derive(Debug)]
pub struct Net {
    me: PeerId,
    connected: BTreeSet<PeerId>,
    /// When that changed last, by the clock that never jumps.
    changed_ms: u64,
    /// Who said that it does not hand out a log, until when that counts.
    refused: BTreeMap<(PeerId, PeerId), u64>,
    /// What was found already.
    chosen: BTreeMap<PeerId, PeerId>,
}

impl Net {
    /// Nobody is connected yet.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            connected: BTreeSet::new(),
            changed_ms: 0,
            refused: BTreeMap::new(),
            chosen: BTreeMap::new(),
        }
    }

    /// This peer.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Those that are connected.
    pub fn connected(&self) -> &BTreeSet<PeerId> {
        &self.connected
    }

    /// When that changed last, or this peer began.
    pub fn changed_ms(&self) -> u64 {
        self.changed_ms
    }

    /// Begins.
    pub fn begin(&mut self, now_ms: u64) {
        self.changed_ms = now_ms;
    }

    /// These are connected from now on. Says whether anything is different.
    pub fn connect(&mut self, now_ms: u64, peers: impl IntoIterator<Item = PeerId>) -> bool {
        let connected: BTreeSet<PeerId> = peers.into_iter().filter(|peer| *peer != self.me).collect();
        if connected == self.connected {
            return false;
        }
        (self.connected, self.changed_ms) = (connected, now_ms);
        self.chosen.clear();
        self.refused.clear();
        true
    }

    /// Whom was passed over long enough is asked again. Says whether there is anybody.
    pub fn forgive(&mut self, now_ms: u64) -> bool {
        let before = self.refused.len();
        if before == 0 {
            return false;
        }
        self.refused.retain(|_, until_ms| *until_ms > now_ms);
        let is_news = self.refused.len() < before;
        if is_news {
            self.chosen.clear();
        }
        is_news
    }

    /// A peer does not hand out a log. Says whether that is news.
    pub fn refuse(&mut self, now_ms: u64, log: PeerId, by: PeerId) -> bool {
        let is_news = self.dispenser(log) == by && by != self.me && log != by;
        if is_news {
            self.refused.insert((log, by), now_ms + REFUSED_MS);
            self.chosen.clear();
        }
        is_news
    }

    /// Who hands out the entries of this log.
    pub fn dispenser(&mut self, log: PeerId) -> PeerId {
        if log == self.me {
            return log;
        }
        if let Some(chosen) = self.chosen.get(&log) {
            return *chosen;
        }
        let chosen = match self.connected.contains(&log) {
            true => log,
            false => {
                let candidates = self.connected.iter().filter(|by| !self.refused.contains_key(&(log, **by)));
                let candidates = candidates.chain([&self.me]);
                *candidates.max_by_key(|candidate| weight(log, **candidate)).expect("there is ourselves")
            }
        };
        self.chosen.insert(log, chosen);
        chosen
    }

    /// Whether that is this peer.
    pub fn is_ours(&mut self, log: PeerId) -> bool {
        self.dispenser(log) == self.me
    }
}

fn weight(log: PeerId, candidate: PeerId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"CV-dispense").update(&log.0).update(&candidate.0);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> PeerId {
        PeerId([byte; 32])
    }

    #[test]
    fn peers_with_the_same_view_choose_the_same_dispenser_for_who_is_gone() {
        let all = [1, 2, 3, 4].map(peer);
        let mut by_log = BTreeSet::new();
        for gone in (10..40).map(peer) {
            let chosen: BTreeSet<PeerId> = all
                .iter()
                .map(|me| {
                    let mut net = Net::new(*me);
                    net.connect(0, all);
                    net.dispenser(gone)
                })
                .collect();
            assert_eq!(chosen.len(), 1);
            by_log.extend(chosen);
        }
        assert_eq!(by_log.len(), 4, "each of them has some");
    }

    #[test]
    fn who_does_not_hand_out_a_log_is_passed_over_for_a_while() {
        let mut net = Net::new(peer(1));
        net.connect(0, [2, 3, 4].map(peer));
        let gone = (10..).map(peer).find(|log| !net.is_ours(*log)).expect("not all are ours");
        let mut asked = Vec::new();
        while !net.is_ours(gone) {
            let by = net.dispenser(gone);
            assert!(!net.refuse(0, gone, peer(1)) && net.refuse(0, gone, by) && !net.refuse(0, gone, by));
            asked.push(by);
        }
        assert!(!net.refuse(0, peer(2), peer(2)), "its own log is a peer's while it is connected");
        assert!(!net.forgive(REFUSED_MS - 1) && net.forgive(REFUSED_MS));
        assert_eq!(net.dispenser(gone), asked[0]);
    }

    #[test]
    fn a_log_is_its_own_peers_while_that_is_connected() {
        let mut net = Net::new(peer(1));
        assert!(net.is_ours(peer(1)) && net.is_ours(peer(2)));
        assert!(net.connect(1, [peer(2), peer(1)]));
        assert!(!net.connect(2, [peer(2)]), "it never counts itself");
        assert_eq!((net.dispenser(peer(2)), net.is_ours(peer(1))), (peer(2), true));
    }
}
