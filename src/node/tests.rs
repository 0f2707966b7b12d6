//! What the engine decides, asked of it alone.
use super::own_log::Tip;
use super::{Input, Node, NodeConfig, Output};
use crate::base::{
    ClusterId, LogId, Now, PeerId, Retention, RunId, Seq, StoreId, Timestamp, TopicId, TopicName,
    TopicSettings,
};
use crate::node::memory::Memory;

const START: u64 = 1_800_000_000_000;
const YEAR: u64 = 366 * 86_400_000;

/// Seed 1019: which entries are too old was asked while the clock was believed, and answered when it was not any more.
#[test]
fn what_was_found_too_old_stays_when_the_clock_is_not_believed_any_more() {
    for jump_ms in [0, YEAR] {
        let mut config = NodeConfig::new(ClusterId([1; 16]), PeerId([2; 32]));
        let retention = Retention { age_ms: Some(1_000), ..Default::default() };
        config.defaults = TopicSettings { retention, ..TopicSettings::default() };
        let name = TopicName::new("jobs").unwrap();
        let log = LogId { topic: TopicId::of(config.cluster, name.as_str()), peer: config.peer };
        let tip = Tip { run: RunId(1), until: Seq(5), last_time: Timestamp::from_ms(START) };
        let memory = Memory { unix_ms: START, ..Memory::default() };
        let mut node = Node::new(config, StoreId(1), memory, [(log, name, tip)].into_iter(), Box::new(|| 7));
        let mut outputs = Vec::new();
        node.handle(Now { mono_ms: 0, unix_ms: START + 1_000 }, Input::Tick, &mut outputs);
        let is_asked = |output: &Output| matches!(output, Output::Plan { dated: Some(_), .. });
        assert!(outputs.iter().any(is_asked), "{outputs:?}");

        let later = Now { mono_ms: 10, unix_ms: START + 1_010 + jump_ms };
        node.handle(later, Input::Planned { log, run: Some(RunId(1)), start: Seq(3) }, &mut outputs);
        assert_eq!(node.has_work(), jump_ms == 0, "a trim is written, but not by a clock that jumped");
    }
}
