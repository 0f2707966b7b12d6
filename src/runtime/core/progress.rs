//! What people ask of how this peer stands to others.
use crate::runtime::core::Core;
use crate::runtime::progress::Question;
use crate::wire::outcome::AppendsState;
use tokio::time::Instant;

impl Core {
    pub(super) fn answer(&mut self, question: Question) {
        let now_ms = self.now().mono_ms;
        let replication = self.node.replication();
        // Whoever asked may be gone.
        match question {
            Question::Progress(reply) => drop(reply.send(replication.progress(now_ms))),
            Question::Sources { id, topic, named, reply } => {
                let fits = |peer: &_, run| named.is_none_or(|named| named == *peer) && id.fits_run(run);
                drop(reply.send(replication.sources(topic, id.seq, fits)));
            }
            Question::Close(reply) => {
                self.is_closing = true;
                self.show(|live| {
                    live.appends = AppendsState::Stopped { reason: "it is stopping".to_owned() }
                });
                let _ = reply.send(());
            }
            Question::Alone { .. } => unreachable!("the engine answers this"),
        }
    }

    /// Lets everyone see how far behind this peer is.
    pub(super) fn show_progress(&mut self) {
        let missing = self.node.replication().missing_count();
        self.behind = (missing > 0).then(|| self.behind.unwrap_or_else(Instant::now));
        let behind = self.behind;
        self.show(|live| (live.missing_count, live.behind) = (missing, behind));
    }
}
