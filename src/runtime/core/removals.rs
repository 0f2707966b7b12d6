//! Peers that are removed for good: signatures are checked here, and logs end where the removal says.
use crate::base::{LogId, PeerId, Remains, SignedRemoval, TopicId, TopicName};
use crate::disk::Lane;
use crate::identity::trust::is_signed_removal;
use crate::log::Store;
use crate::log::set_aside::Changed;
use crate::log::state::Range;
use crate::node::Input;
use crate::replication::PeerInput;
use crate::runtime::core::Core;
use crate::runtime::lanes::{Event, Jobs};
use crate::runtime::removals::{leave, note};
use crate::runtime::start::{is_left_to_delete, recall_catalog};
use crate::wire::peer::RunRange;
use std::sync::Arc;

impl Core {
    /// An entry of `$catalog` says that a peer is removed.
    pub(super) fn check_removal(&mut self, signed: &SignedRemoval) {
        let shared = &self.shared;
        if is_signed_removal(&*shared.trust, shared.about.cluster, signed) {
            note(shared, signed);
            self.feed(Input::Removed(Box::new(signed.clone())));
        } else {
            let (peer, by) = (signed.removal.peer, signed.removal.signer);
            tracing::error!(%peer, %by, "a removal in $catalog is not signed by an administrator, and counts for nothing");
        }
    }

    /// Has the logs of a removed peer end; what we wrote ourselves and nobody was told of yet is refused, where it is us.
    pub(super) fn leave(&mut self, peer: PeerId, remains: Arc<Remains>) {
        if peer == self.node.peer() {
            self.refuse_own();
        }
        self.leaving += 1;
        self.jobs.leave(peer, remains);
    }

    /// Others are told what does not count any more, and what does again.
    pub(super) fn on_left(&mut self, changed: Vec<(LogId, Changed)>) {
        self.leaving -= 1;
        let catalog = TopicId::of(self.shared.about.cluster, TopicName::catalog().as_str());
        for (log, Changed { gone, back }) in changed {
            let is_same = gone.is_empty() && back.is_empty();
            for Range { run, from, until } in gone {
                self.feed(Input::Peer(PeerInput::Gone(RunRange { log, run, from, until })));
                // Where the run ends now, and with which batch.
                self.on_healed(log, Range { run, from, until: from });
            }
            if log.topic == catalog && !is_same {
                self.node.doubt_catalog();
            }
            back.into_iter().for_each(|range| self.on_healed(log, range));
            self.shared.watches.wake(log.topic);
        }
    }

    /// Reads the catalog again where that is due, and trims what deletions name and was not here when they came, or not ours
    /// to trim.
    pub(super) fn carry_out_deletions(&mut self) {
        let (now, store) = (self.now(), self.shared.store.clone());
        let reads = self.node.is_catalog_old() && self.leaving == 0;
        if reads {
            match recall_catalog(&mut self.node, self.shared.about.cluster, &store) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "the catalog could not be read; it is tried again in a second");
                    return;
                }
            }
            let configured = self.node.configured();
            self.show(|live| live.configured = configured);
        }
        if self.node.take_came_back() || reads {
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
