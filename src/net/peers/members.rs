//! Who belongs to the cluster, as gossip has it.
use crate::base::StoreId;
use crate::wire::facts::Facts;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Rounds for which the higher store of a pair leaves the dialling to the lower one: some 3 s.
const LEAVE_ROUNDS: u32 = 6;

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
    /// Texts that were refused, by id, so that they are looked at once.
    refused: BTreeMap<String, String>,
}

impl Members {
    /// In order of stores.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_store.values()
    }

    /// Which store is reached at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<StoreId> {
        self.iter().find(|member| member.facts.address == address).map(|member| member.facts.store)
    }

    /// Takes what gossip says now: names of ids, whether they live, and what they say. `open` reads that if it is signed.
    pub(super) fn hear(
        &mut self,
        said: impl Iterator<Item = (String, bool, String)>,
        open: impl Fn(&str) -> Option<Facts>,
    ) {
        let mut now = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let known: BTreeMap<&str, &Member> =
            self.by_store.values().map(|member| (member.text.as_str(), member)).collect();
        for (id, is_alive, text) in said {
            if self.refused.get(&id) == Some(&text) {
                refused.insert(id, text);
                continue;
            }
            let before = known.get(text.as_str());
            let facts = before.map(|member| member.facts.clone()).or_else(|| open(&text));
            // An id speaks for its own store alone.
            match facts.filter(|facts| facts.store.short() == id) {
                Some(facts) => {
                    let absent_rounds = before.map_or(0, |member| member.absent_rounds);
                    now.insert(facts.store, Member { facts, is_alive, text, absent_rounds });
                }
                None => {
                    tracing::warn!(id, "gossip says of a peer what that has not signed; it is not believed");
                    refused.insert(id, text);
                }
            }
        }
        (self.by_store, self.refused) = (now, refused);
    }

    /// Where those are who live and have no session, and whose turn it is not to dial.
    pub(super) fn absent(
        &mut self,
        own: StoreId,
        is_connected: impl Fn(StoreId) -> bool,
    ) -> Vec<(StoreId, SocketAddr)> {
        let mut absent = Vec::new();
        for (store, member) in &mut self.by_store {
            if *store == own || is_connected(*store) || !member.is_alive {
                member.absent_rounds = 0;
                continue;
            }
            member.absent_rounds = member.absent_rounds.saturating_add(1);
            if own < *store || member.absent_rounds > LEAVE_ROUNDS {
                absent.push((*store, member.facts.address));
            }
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, PeerId, PeerName};

    fn facts(store: u64) -> Facts {
        Facts {
            cluster: ClusterId([1; 16]),
            peer: PeerId([store as u8; 32]),
            store: StoreId(store << 32),
            features: 0,
            address: SocketAddr::from(([10, 0, 0, store as u8], 8011)),
            name: PeerName::new("a").unwrap(),
        }
    }

    fn said(stores: &[u64]) -> impl Iterator<Item = (String, bool, String)> {
        stores.iter().map(|store| (facts(*store).store.short(), true, store.to_string()))
    }

    fn open(text: &str) -> Option<Facts> {
        text.parse().ok().map(facts)
    }

    #[test]
    fn the_lower_store_dials_and_the_higher_one_when_that_does_not() {
        let mut members = Members::default();
        members.hear(said(&[1, 2, 3]), open);
        let own = facts(2).store;
        let address = |store: u64| (facts(store).store, facts(store).address);
        for _ in 0..LEAVE_ROUNDS {
            assert_eq!(members.absent(own, |_| false), [address(3)]);
            members.hear(said(&[1, 2, 3]), open);
        }
        assert_eq!(members.absent(own, |_| false), [address(1), address(3)]);
        assert_eq!(members.absent(own, |store| store == facts(1).store), [address(3)]);
        assert_eq!(members.at(facts(3).address), Some(facts(3).store));
    }

    #[test]
    fn an_id_speaks_for_its_own_store_alone() {
        let mut members = Members::default();
        let foreign = (facts(1).store.short(), true, "2".to_owned());
        let rubbish = (facts(3).store.short(), true, "rubbish".to_owned());
        members.hear([foreign, rubbish].into_iter(), open);
        assert_eq!(members.iter().count(), 0);
        members.hear(said(&[1]), open);
        assert_eq!(members.iter().count(), 1, "what is right is heard all the same");
    }
}
