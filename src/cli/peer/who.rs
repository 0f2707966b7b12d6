//! Which peer a person means: by name, by store as `cluster members` prints it, or by key.
use crate::base::{PeerId, PeerName, TopicName};
use crate::cli::connect::within;
use crate::cli::exit::{Exit, failure, is_forbidden};
use crate::client::{Client, Member};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What is said of a peer that gossip has forgotten.
pub const FORGOTTEN: &str = "nobody heard of it for long";

/// All peers that are known: those of the cluster, and those who wrote something that is held.
pub struct Known {
    pub members: Vec<Member>,
    /// All topics whose names are known.
    pub topics: Vec<TopicName>,
    names: BTreeMap<PeerId, BTreeSet<PeerName>>,
}

impl Known {
    /// Asks a peer.
    pub async fn ask(client: &Client) -> Result<Self> {
        let members = client.members().await?;
        let mut names: BTreeMap<PeerId, BTreeSet<PeerName>> = BTreeMap::new();
        for member in &members {
            names.entry(member.peer).or_default().insert(member.name.clone());
        }
        let mut topics = Vec::new();
        for topic in client.topics().await? {
            topics.push(topic.name);
            for log in topic.logs {
                names.entry(log.peer).or_default().extend(log.name);
            }
        }
        Ok(Self { members, topics, names })
    }

    /// All members but for what peers that are there were before their last starts.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        let lives = |peer: PeerId| self.members.iter().any(|m| m.peer == peer && m.state.is_there());
        self.members.iter().filter(move |member| member.state.is_there() || !lives(member.peer))
    }

    /// Who wrote something that is held, and is no member any more, since nobody heard of it for long; each with why it is not
    /// known whether it was removed, where that is so. They are asked about for `wait` at most.
    pub async fn forgotten(&self, client: &Client, wait: Duration) -> Vec<(PeerId, Option<String>)> {
        let begun = Instant::now();
        let gone = self.names.keys().filter(|peer| self.members.iter().all(|member| member.peer != **peer));
        let mut forgotten = Vec::new();
        for peer in gone {
            match within(wait.saturating_sub(begun.elapsed()), client.held_of(*peer)).await {
                Ok(held) if held.is_removed => {}
                Ok(_) => forgotten.push((*peer, None)),
                Err(error) if is_forbidden(&error) => {
                    forgotten.push((*peer, Some("that needs the right admin for all topics".to_owned())));
                }
                Err(error) => forgotten.push((*peer, Some(error.to_string()))),
            }
        }
        forgotten
    }

    /// What people call a peer; the beginning of its key where they call it nothing.
    pub fn called(&self, peer: &PeerId) -> String {
        let named = self.names.get(peer).and_then(|names| names.first());
        named.map_or_else(|| peer.short(), ToString::to_string)
    }

    /// The one peer that is meant. A key is believed as it is, since it may be of a peer that wrote nothing.
    pub fn find(&self, given: &str) -> Result<PeerId> {
        if let Some(key) = PeerId::parse(given) {
            return Ok(key);
        }
        let is_store = |member: &&Member| member.store.to_string() == given;
        let by_store = self.members.iter().filter(is_store).map(|member| member.peer);
        let is_called =
            |(_, names): &(&PeerId, &BTreeSet<PeerName>)| names.iter().any(|name| name.as_str() == given);
        let by_name = self.names.iter().filter(is_called).map(|(peer, _)| *peer);
        let found: BTreeSet<PeerId> = by_store.chain(by_name).collect();
        match found.len() {
            1 => Ok(*found.first().expect("there is one")),
            0 => {
                let message = format!(
                    "no peer called {given} is known; `conveyor cluster members` lists names and stores; of one that is long \
                     gone and wrote nothing, give the key (`conveyor cert show`)"
                );
                Err(failure(Exit::NotFound, message))
            }
            _ => {
                let keys: Vec<String> = found.iter().map(ToString::to_string).collect();
                let message = format!("{given} may be any of {}; give the key", keys.join(", "));
                Err(failure(Exit::Usage, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::StoreId;
    use crate::client::MemberState;

    fn known(peers: &[(u8, u64, &str)]) -> Known {
        let member = |(key, store, name): &(u8, u64, &str)| Member {
            store: StoreId(*store),
            peer: PeerId([*key; 32]),
            name: PeerName::new(name).unwrap(),
            address: None,
            state: MemberState::Alive,
        };
        let members: Vec<Member> = peers.iter().map(member).collect();
        let names = members.iter().map(|m| (m.peer, [m.name.clone()].into())).collect();
        Known { members, topics: Vec::new(), names }
    }

    #[test]
    fn a_peer_is_found_by_name_store_or_key_and_never_guessed() {
        let known = known(&[(1, 10, "alpha"), (2, 20, "beta"), (3, 30, "beta")]);
        assert_eq!(known.find("alpha").unwrap(), PeerId([1; 32]));
        assert_eq!(known.find(&StoreId(30).to_string()).unwrap(), PeerId([3; 32]));
        assert_eq!(known.find(&PeerId([9; 32]).to_string()).unwrap(), PeerId([9; 32]));
        let told = known.find("beta").unwrap_err().to_string();
        assert!(told.contains(&PeerId([2; 32]).to_string()) && told.contains(&PeerId([3; 32]).to_string()));
        assert!(known.find("alph").unwrap_err().to_string().contains("no peer called alph"));
        assert_eq!(known.called(&PeerId([2; 32])), "beta");
    }
}
