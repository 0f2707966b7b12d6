//! What is decided as time passes: whether the clock may decide, and which logs have something that is too old or too much.
use crate::base::{LogId, Now, Seq, Timestamp, TopicName, Work};
use crate::node::engine::Node;
use crate::node::io::Output;
use crate::replication::held::HeldLog;
use crate::wire::outcome::ClockState;

impl Node {
    /// Whether the clock may decide.
    pub fn clock_state(&self) -> ClockState {
        self.clock.state()
    }

    pub(super) fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let is_trusted = self.trusts_clock(now);
        self.say_removals(now);
        if now.mono_ms < self.next_plan_ms {
            return;
        }
        self.next_plan_ms = now.mono_ms + self.config.retention_interval_ms;
        let succeeded = self.succeeded_logs();
        self.complete_heads(now, &succeeded);
        let own = self.own.iter().map(|(log, own)| (*log, &own.topic));
        for (log, topic) in own.chain(succeeded.iter().map(|(log, topic)| (*log, topic))) {
            let settings = self.settings(topic);
            if !settings.retention.keeps_all() {
                let age = settings.retention.age_ms.filter(|_| is_trusted);
                let until = Timestamp::from_ms(now.unix_ms);
                let dated = |age_ms| Timestamp::from_ms(now.unix_ms.saturating_sub(age_ms))..until;
                outputs.push(Output::Plan { log, retention: settings.retention, dated: age.map(dated) });
            }
        }
    }

    /// Signs anew what was signed of a trim by another store under our key, which did not know where the run begins.
    fn complete_heads(&mut self, now: Now, succeeded: &[(LogId, TopicName)]) {
        let logs = self.own.keys().chain(succeeded.iter().map(|(log, _)| log));
        let held = self.replication.held();
        let is_lacking = |log: &&LogId| held.log(log).is_some_and(HeldLog::lacks_beginnings);
        let may_be_ours = |log: &&LogId| self.may_trim(log.peer);
        let lacking: Vec<LogId> = logs.filter(is_lacking).filter(may_be_ours).copied().collect();
        let time = Timestamp::from_ms(now.unix_ms);
        for log in lacking {
            // Nothing more is trimmed.
            self.gather.push(Work::Trim { log, run: None, start: Seq::FIRST, time });
        }
    }

    /// Whether it may, now.
    pub(super) fn trusts_clock(&mut self, now: Now) -> bool {
        self.clock.observe(now);
        self.clock.state() == ClockState::Trusted
    }
}
