//! What is decided as time passes: whether the clock may decide, and which logs have something that is too old or too much.
use crate::base::{Now, Timestamp};
use crate::node::engine::Node;
use crate::node::io::Output;
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

    /// Whether it may, now.
    pub(super) fn trusts_clock(&mut self, now: Now) -> bool {
        self.clock.observe(now);
        self.clock.state() == ClockState::Trusted
    }
}
