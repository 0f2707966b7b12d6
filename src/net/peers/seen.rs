//! Who is there, and what is seen of the connections to them, for people and for monitoring.
use crate::base::{PeerId, PeerName, StoreId};
use crate::net::counters::SentBytes;
use crate::net::peers::{Member, Other, Peers, lock};
use crate::wire::outcome::{self as wire, About, MemberState};
use std::collections::{BTreeMap, BTreeSet};

/// A session as its connection sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who is at the other end.
    pub other: Other,
    /// Time there and back, in microseconds.
    pub rtt_us: u64,
    /// Bytes of all packets that came since the session began.
    pub received_bytes: u64,
    /// Bytes of all that were sent.
    pub sent_bytes: u64,
}

impl Peers {
    /// What people call the peer of a store with which there is a session.
    pub fn name_of(&self, store: StoreId) -> Option<PeerName> {
        Some(self.session(store)?.other.name.clone())
    }

    /// All sessions, in order of stores.
    pub fn seen(&self) -> Vec<Seen> {
        let sessions = lock(&self.sessions);
        let seen = sessions.values().map(|session| {
            let stats = session.connection.stats();
            let rtt_us = session.connection.rtt().as_micros() as u64;
            let (received_bytes, sent_bytes) = (stats.udp_rx.bytes, stats.udp_tx.bytes);
            Seen { other: session.other.clone(), rtt_us, received_bytes, sent_bytes }
        });
        seen.collect()
    }

    /// Bytes sent to other peers, by what they are for.
    pub fn sent_bytes(&self) -> SentBytes {
        let udp_bytes = {
            // Under the lock a session is either here or among those that have ended.
            let sessions = lock(&self.sessions);
            let open = sessions.values().map(|session| session.connection.stats().udp_tx.bytes);
            open.sum::<u64>() + self.counters.peer_udp_bytes_ended.get()
        };
        self.counters.sent_to_peers.read(udp_bytes)
    }

    /// All peers of the cluster that are known, the one that `about` tells of included, in order of their names.
    pub fn all(&self, about: &About) -> Vec<wire::Member> {
        let own = self.running().and_then(|running| self.own_address(&running));
        let mut all = BTreeMap::new();
        for Member { facts, is_alive, .. } in
            self.members().iter().filter(|m| !self.is_removed(&m.facts.peer))
        {
            let state = if *is_alive { MemberState::Alive } else { MemberState::Dead };
            let (name, address) = (facts.name.clone(), Some(facts.address));
            all.insert(
                facts.store(),
                wire::Member { store: facts.store(), peer: facts.peer, name, address, state },
            );
        }
        for session in lock(&self.sessions).values() {
            let Other { store, peer, name, address } = session.other.clone();
            let rtt_us = session.connection.rtt().as_micros() as u64;
            let state = MemberState::Connected { rtt_us };
            all.insert(store, wire::Member { store, peer, name, address: Some(address), state });
        }
        let About { store, peer, name, .. } = about.clone();
        all.insert(store, wire::Member { store, peer, name, address: own, state: MemberState::Oneself });
        // Of a peer that lives, the stores of earlier starts are of no interest.
        let lives: BTreeSet<PeerId> = all
            .values()
            .filter(|member| member.state != MemberState::Dead)
            .map(|member| member.peer)
            .collect();
        // Nor is one at the address of a store of its that is connected: gossip hears of its end some seconds later.
        let there: BTreeSet<_> = all
            .values()
            .filter(|member| member.state.is_there())
            .map(|member| (member.peer, member.address))
            .collect();
        let was_before = |member: &wire::Member| {
            !member.state.is_there() && there.contains(&(member.peer, member.address))
        };
        let mut all: Vec<_> = all
            .into_values()
            .filter(|member| member.state != MemberState::Dead || !lives.contains(&member.peer))
            .filter(|member| !was_before(member))
            .collect();
        all.sort_by(|a, b| (&a.name, a.store).cmp(&(&b.name, b.store)));
        all
    }
}
