//! The search for where two stores differ first, question by question.
use crate::base::fork::Side;
use crate::base::{LogId, RunId, Seq, StoreId};
use crate::node::Input;
use crate::runtime::core::Core;
use crate::runtime::forks::{Asked, Compared};
use crate::wire::peer::PeerMessage;

impl Core {
    /// Another store holds `at`, or something before it, in another way than this one.
    pub(super) fn search(&mut self, with: StoreId, log: LogId, run: RunId, at: Seq) {
        let known = self.shared.store.log(&log);
        let from = known.and_then(|log| {
            let state = log.look();
            Some(state.begin_of(state.run(run)?))
        });
        let asked = from.and_then(|from| self.searches.begin(with, log, run, at, from));
        if let Some(asked) = asked {
            self.ask(with, asked);
        }
    }

    fn ask(&self, with: StoreId, (log, run, seq): Asked) {
        self.shared.env.peers.send(with, PeerMessage::AskStatement { log, run, seq });
    }

    pub(super) fn on_statement(&mut self, from: StoreId, asked: Asked, side: Option<Box<Side>>) {
        if !self.searches.expects(from, &asked) {
            return;
        }
        match side {
            Some(side) => self.jobs.compare(from, asked, side),
            None => self.searches.end(from),
        }
    }

    pub(super) fn on_compared(&mut self, with: StoreId, asked: Asked, compared: Compared) {
        if let Some(next) = self.searches.go_on(with, &asked, &compared) {
            self.ask(with, next);
        }
        if let Compared::Fork(topic, fork) = compared {
            self.feed(Input::Fork { topic, fork });
        }
    }
}
