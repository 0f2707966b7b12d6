//! Peers that are removed for good: signatures are checked here, and logs end where the removal says.
use crate::base::{LogId, PeerId, Remains, SignedRemoval};
use crate::disk::Lane;
use crate::identity::trust::is_signed_removal;
use crate::log::Store;
use crate::log::set_aside::Changed;
use crate::log::state::Range;
use crate::node::Input;
use crate::replication::PeerInput;
use crate::runtime::core::Core;
use crate::runtime::lanes::{Event, Jobs};
use crate::runtime::removals::leave;
use crate::runtime::start::{is_left_to_delete, recall_catalog};
use crate::wire::peer::RunRange;
use std::sync::Arc;

impl Core {
    /// An entry of `$catalog` says that a peer is removed.
    pub(super) fn check_removal(&mut self, signed: &SignedRemoval) {
        let shared = &self.shared;
        if is_signed_removal(&*shared.trust, shared.about.cluster, signed) {
            self.feed(Input::Removed(Box::new(signed.removal.clone())));
        } else {
            let (peer, by) = (signed.removal.peer, signed.removal.signer);
            tracing::error!(%peer, %by, "a removal in $catalog is not signed by an administrator, and counts for nothing");
        }
    }

    /// Others are told what does not count any more, and what does again.
    pub(super) fn on_left(&mut self, changed: Vec<(LogId, Changed)>) {
        self.leaving -= 1;
        for (log, Changed { gone, back }) in changed {
            for Range { run, from, until } in gone {
                self.feed(Input::Peer(PeerInput::Gone(RunRange { log, run, from, until })));
                // Where the run ends now, and with which batch.
                self.on_healed(log, Range { run, from, until: from });
            }
            back.into_iter().for_each(|range| self.on_healed(log, range));
            self.shared.watches.wake(log.topic);
        }
    }

    /// Trims what deletions name and was not here when they came, or not ours to trim.
    pub(super) fn carry_out_deletions(&mut self) {
        if !self.at_disk.is_empty() {
            return;
        }
        let (now, store) = (self.now(), self.shared.store.clone());
        let has_succeeded = self.node.take_succeeded();
        if has_succeeded {
            let cluster = self.shared.about.cluster;
            if let Err(error) = recall_catalog(&mut self.node, cluster, &store) {
                tracing::error!(%error, "the catalog could not be read; deletions wait for the next start");
            }
        }
        if self.node.take_own_came_back() || has_succeeded {
            self.node.resume_deletions(now, |log, run, until| is_left_to_delete(&store, log, run, until));
        }
    }
}

impl Jobs {
    /// Lets the logs of a removed peer end where its removal says. In order: of two removals the second leaves what either does.
    pub(super) fn leave(&self, peer: PeerId, remains: Arc<Remains>) {
        let (events, store) = (self.events.clone(), self.shared.store.clone());
        let job = move || {
            let store: &Arc<Store> = &store;
            // Without a core there is nobody to tell: the peer was dropped.
            drop(events.send(Event::Left(leave(store, peer, &remains))));
        };
        self.shared.io().run(Lane::Maintenance, Box::new(job));
    }
}
