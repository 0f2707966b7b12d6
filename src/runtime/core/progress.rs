//! What people ask of how this peer stands to others.
use crate::runtime::core::Core;
use crate::runtime::progress::Question;
use crate::wire::outcome::AppendsState;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Who closed this peer, and the step with which all is on the disk that it had taken by then, once that is known.
pub(super) type Closing = (Option<u64>, oneshot::Sender<()>);

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
                    live.appends = AppendsState::Stopped { reason: "it is stopping".to_owned() };
                    live.is_closing = true;
                });
                self.closing.push((None, reply));
                self.answer_closing();
            }
            Question::Alone { .. } => unreachable!("the engine answers this"),
        }
    }

    /// Answers who closed this peer once all that it had taken is on the disk: only then can be seen who else holds it.
    pub(super) fn answer_closing(&mut self) {
        // What is large, and what waits behind it, is in no step yet.
        let rests_with = self.large.is_empty().then(|| self.rests_with());
        self.closing.iter_mut().for_each(|closing| closing.0 = closing.0.or(rests_with));
        let settled = self.settled;
        let is_done = |closing: &mut Closing| closing.0.is_some_and(|step| step <= settled);
        // Whoever asked may be gone.
        for (_, reply) in self.closing.extract_if(.., is_done) {
            let _ = reply.send(());
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
