//! P3: who is told of copies is told whose, and each of those has one.
//!
//! ```text
//! receipt: appended at p1, held by p2 (store a), p3 (store b) ──> as many peers as were asked for, each another
//!                                                             └─> whichever of these stores still runs holds it
//! ```
use crate::cluster::check::is_trimmed;
use crate::cluster::kept::may_be_trimmed;
use crate::cluster::model::{Fact, Model};
use crate::cluster::site::{Live, holds};
use crate::cluster::written::names_of;
use crate::cluster::{Cluster, lock};
use conveyor::base::{EntryId, PeerId};
use conveyor::wire::outcome::Appended;
use std::collections::{BTreeMap, BTreeSet};

/// Compares the receipt of an append that asked for so many copies with those that it names. One that ended since cannot be
/// asked: what it held was counted when it ended.
pub fn check_copies(cluster: &Cluster, receipt: &Appended, facts: &[(EntryId, Fact)], asked: u8) {
    let all = cluster.all_live();
    let model = lock(&cluster.model);
    if model.is_cheat(&receipt.peer) {
        return;
    }
    let peers = receipt.holders.iter().map(|holder| holder.peer).chain([receipt.peer]);
    let peers: BTreeSet<PeerId> = peers.collect();
    assert!(
        peers.len() >= usize::from(asked),
        "P3: acknowledged with {asked} copies, and these hold it: {receipt:?}"
    );
    let stores = receipt.holders.iter().map(|holder| holder.store).chain([receipt.store]);
    let stores: BTreeSet<_> = stores.collect();
    for (site, live) in all.iter().filter(|(_, live)| stores.contains(&live.store)) {
        let lacks = |(id, fact): &&(EntryId, Fact)| !is_there(&model, &all, live, id, *fact);
        // Whose disk rots, or who lies, may say what it likes.
        let lacked = facts.iter().filter(|_| !model.is_unsure(*site)).find(lacks);
        assert!(lacked.is_none(), "P3: {site} is named for a copy of {lacked:?} and has none: {receipt:?}");
    }
}

/// Whether a store holds an entry, or trimmed it since, or it does not count any more.
fn is_there(model: &Model, all: &BTreeMap<usize, Live>, live: &Live, id: &EntryId, fact: Fact) -> bool {
    let store = live.handle.store();
    // What peers wrote whose runs forked may have other names by now.
    let has_other_name =
        || model.is_two_faced(&id.peer) && !names_of(store, &(id.log(), id.seq, fact)).is_empty();
    holds(store, id)
        || has_other_name()
        || (is_trimmed(live, id) && may_be_trimmed(model, all, live, id))
        || model.is_set_aside(id)
}
