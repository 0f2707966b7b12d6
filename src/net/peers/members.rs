//! Who belongs to the cluster, as gossip has it.
use crate::base::{PeerId, StoreId};
use crate::net::peers::dial::Known;
use crate::wire::facts::Facts;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Rounds for which the higher store of a pair leaves the dialling to the lower one: some 3 s.
const LEAVE_ROUNDS: u32 = 6;

/// Texts that are read in one round: each costs the check of a certificate and of a signature, some 100 us.
const OPENED_MAX: usize = 64;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it says of itself.
    pub facts: Facts,
    /// Whether gossip hears from it.
    pub is_alive: bool,
    /// The text that `facts` was read from.
    text: String,
    /// Rounds without a session.
    absent_rounds: u32,
}

/// All that were heard of.
#[derive(Debug, Clone, Default)]
pub struct Members {
    by_store: BTreeMap<StoreId, Member>,
    /// What was refused, ids with texts, so that it is looked at once. Several ids have one name.
    refused: BTreeSet<(String, String)>,
}

impl Members {
    /// In order of stores.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_store.values()
    }

    /// Which store is reached at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<StoreId> {
        self.by_store.iter().find(|(_, member)| member.facts.address == address).map(|(store, _)| *store)
    }

    /// Takes what gossip says now: names of ids, whether they live, and what they say. `open` reads that if it is signed; so
    /// many new ones at most are read, and others the next time.
    pub(super) fn hear(
        &self,
        said: impl Iterator<Item = (String, bool, String)>,
        open: impl Fn(&str) -> Option<Facts>,
    ) -> Self {
        let mut next = Self::default();
        let known: BTreeMap<&str, &Member> =
            self.by_store.values().map(|member| (member.text.as_str(), member)).collect();
        let mut opened = 0;
        for (id, is_alive, text) in said {
            let said = (id, text);
            if self.refused.contains(&said) {
                next.refused.insert(said);
                continue;
            }
            let (id, text) = said;
            let before = known.get(text.as_str());
            if before.is_none() {
                opened += 1;
                if opened > OPENED_MAX {
                    continue;
                }
            }
            let facts = before.map(|member| member.facts.clone()).or_else(|| open(&text));
            // An id speaks for its own store alone.
            match facts.map(|facts| (facts.store(), facts)).filter(|(store, _)| store.short() == id) {
                Some((store, facts)) => {
                    let absent_rounds = before.map_or(0, |member| member.absent_rounds);
                    let member = Member { facts, is_alive, text, absent_rounds };
                    if !next.by_store.get(&store).is_some_and(|there| there.is_alive) {
                        next.by_store.insert(store, member);
                    }
                }
                None => {
                    tracing::debug!(id, "gossip says of a peer what that has not signed; it is not believed");
                    next.refused.insert((id, text));
                }
            }
        }
        next
    }

    /// Those who live, but for `own` and who was removed, with whose turn it is to dial.
    pub(super) fn alive(
        &mut self,
        own: StoreId,
        connected: &BTreeSet<StoreId>,
        is_removed: impl Fn(&PeerId) -> bool,
    ) -> Vec<Known> {
        let mut alive = Vec::new();
        for (store, member) in &mut self.by_store {
            if *store == own || !member.is_alive || is_removed(&member.facts.peer) {
                member.absent_rounds = 0;
                continue;
            }
            let is_connected = connected.contains(store);
            member.absent_rounds = if is_connected { 0 } else { member.absent_rounds.saturating_add(1) };
            let dials_us = *store < own && member.absent_rounds <= LEAVE_ROUNDS;
            alive.push(Known { store: *store, address: member.facts.address, dials_us });
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, PeerId, PeerName, StoreNonce};

    /// Of the peer whose store is the `number`th of 200, from 1.
    fn facts(number: u64) -> Facts {
        let of = |start: u8| Facts {
            cluster: ClusterId([1; 16]),
            peer: PeerId([start; 32]),
            nonce: StoreNonce(u64::from(start)),
            features: 0,
            address: SocketAddr::from(([10, 0, 0, start], 8011)),
            name: PeerName::new("a").unwrap(),
        };
        let mut all: Vec<_> = (0..200).map(of).collect();
        all.sort_by_key(Facts::store);
        all.swap_remove(number as usize - 1)
    }

    fn said(stores: &[u64]) -> impl Iterator<Item = (String, bool, String)> {
        stores.iter().map(|store| (facts(*store).store().short(), true, store.to_string()))
    }

    fn open(text: &str) -> Option<Facts> {
        text.parse().ok().map(facts)
    }

    #[test]
    fn the_lower_store_dials_and_the_higher_one_when_that_does_not() {
        let mut members = Members::default().hear(said(&[1, 2, 3]), open);
        let (own, nobody) = (facts(2).store(), BTreeSet::new());
        let dials_us = |members: &mut Members, connected: &BTreeSet<StoreId>| {
            let alive = members.alive(own, connected, |_| false);
            assert_eq!(
                alive.iter().map(|known| known.store).collect::<Vec<_>>(),
                [facts(1).store(), facts(3).store()]
            );
            alive.iter().map(|known| known.dials_us).collect::<Vec<_>>()
        };
        for _ in 0..LEAVE_ROUNDS {
            assert_eq!(dials_us(&mut members, &nobody), [true, false]);
            members = members.hear(said(&[1, 2, 3]), open);
        }
        assert_eq!(dials_us(&mut members, &nobody), [false, false]);
        let one = BTreeSet::from([facts(1).store()]);
        assert_eq!(dials_us(&mut members, &one), [true, false], "when it is gone it has its turn again");
        assert_eq!(members.at(facts(3).address), Some(facts(3).store()));
    }

    #[test]
    fn an_id_speaks_for_its_own_store_alone() {
        let foreign = (facts(1).store().short(), true, "2".to_owned());
        let rubbish = (facts(3).store().short(), true, "rubbish".to_owned());
        let members = Members::default().hear([foreign, rubbish].into_iter(), open);
        assert_eq!(members.iter().count(), 0);
        assert_eq!(members.hear(said(&[1]), open).iter().count(), 1, "what is right is heard all the same");
    }

    #[test]
    fn what_is_refused_is_looked_at_once_also_where_two_ids_have_one_name() {
        let name = facts(1).store().short();
        let both = || [(name.clone(), true, "one".to_owned()), (name.clone(), true, "other".to_owned())];
        let count = std::cell::Cell::new(0);
        let counting = |_: &str| -> Option<Facts> {
            count.set(count.get() + 1);
            None
        };
        let mut members = Members::default();
        for _ in 0..3 {
            members = members.hear(both().into_iter(), counting);
        }
        assert_eq!(count.get(), 2);
    }

    #[test]
    fn a_store_is_its_peers_alone_and_the_living_count_before_the_dead() {
        let members = Members::default().hear(said(&[1]), open);
        let thief = |text: &str| {
            let facts = open(text.strip_prefix("thief ").unwrap_or(text))?;
            let peer = if text.starts_with("thief") { PeerId([9; 32]) } else { facts.peer };
            Some(Facts { peer, ..facts })
        };
        let id = facts(1).store().short();
        let stolen = [(id.clone(), true, "thief 1".to_owned()), (id.clone(), true, "1".to_owned())];
        let members = members.hear(stolen.into_iter(), thief);
        assert_eq!(members.iter().map(|member| member.facts.peer).collect::<Vec<_>>(), [facts(1).peer]);
        let both = [(id.clone(), true, "1".to_owned()), (id, false, "1".to_owned())];
        assert!(members.hear(both.into_iter(), open).iter().all(|member| member.is_alive));
    }

    #[test]
    fn many_that_are_new_are_read_over_several_rounds() {
        let all: Vec<u64> = (1..=200).collect();
        let count = std::cell::Cell::new(0);
        let counting = |text: &str| {
            count.set(count.get() + 1);
            open(text)
        };
        let mut members = Members::default();
        for round in 1..=4 {
            members = members.hear(said(&all), counting);
            assert_eq!(members.iter().count(), (round * OPENED_MAX).min(200));
        }
        assert_eq!(count.get(), 200, "each once");
    }
}
