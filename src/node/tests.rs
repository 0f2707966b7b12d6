//! What the engine decides, asked of it alone.
use super::own_log::Tip;
use super::{Input, Node, NodeConfig, Output};
use crate::base::{
    ClusterId, LogId, Now, PeerId, Retention, RunId, Seq, StoreId, Timestamp, TopicId, TopicName,
    TopicSettings,
};
use crate::node::memory::Memory;
use crate::replication::{PeerInput, PeerOutput};
use crate::wire::outcome::ClockState;
use crate::wire::peer::PeerMessage;

const START: u64 = 1_800_000_000_000;
const YEAR: u64 = 366 * 86_400_000;

/// Seed 1019: which entries are too old was asked while the clock was believed, and answered when it was not any more.
#[test]
fn what_was_found_too_old_stays_when_the_clock_is_not_believed_any_more() {
    for (jump_ms, is_dated, is_trimmed) in [(0, true, true), (YEAR, true, false), (YEAR, false, true)] {
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

        // However late the answer comes, and whatever was asked meanwhile.
        for mono_ms in [10, 60_000] {
            let later = Now { mono_ms, unix_ms: START + 1_000 + mono_ms + jump_ms };
            node.handle(later, Input::Tick, &mut outputs);
            let planned = Input::Planned { log, run: Some(RunId(1)), start: Seq(3), is_dated };
            node.handle(later, planned, &mut outputs);
            assert_eq!(node.has_work(), is_trimmed, "a trim is written, but not by a clock that jumped");
        }
    }
}

#[test]
fn a_clock_under_our_own_key_says_nothing_of_ours() {
    let config = NodeConfig::new(ClusterId([1; 16]), PeerId([2; 32]));
    let memory = Memory { unix_ms: START, ..Memory::default() };
    let mut node = Node::new(config, StoreId(1), memory, std::iter::empty(), Box::new(|| 7));
    let (now, mut outputs) = (Now { mono_ms: 0, unix_ms: START + YEAR }, Vec::new());
    node.handle(now, Input::Tick, &mut outputs);
    let tells = |node: &mut Node, store: u64, peer: u8, unix_ms: u64| {
        let (store, mut outputs) = (StoreId(store), Vec::new());
        node.handle(now, Input::Peer(PeerInput::Up(store, PeerId([peer; 32]))), &mut outputs);
        let is_told = |output: &Output| {
            let clock = PeerMessage::Clock(START + YEAR);
            matches!(output, Output::Peer(PeerOutput::Send(to, said)) if (*to, said) == (store, &clock))
        };
        assert!(outputs.iter().any(is_told), "it is told ours as the session begins");
        let message = PeerInput::Message(store, PeerMessage::Clock(unix_ms));
        node.handle(now, Input::Peer(message), &mut outputs);
        node.clock_state()
    };
    let doubted = node.clock_state();
    assert!(matches!(doubted, ClockState::Settling { .. }));
    assert_eq!(tells(&mut node, 2, 2, START + YEAR), doubted);
    assert_eq!(tells(&mut node, 3, 3, START + YEAR), ClockState::Trusted);
    assert_eq!(tells(&mut node, 4, 4, START), ClockState::Trusted, "two of three");
    assert!(matches!(tells(&mut node, 5, 5, START), ClockState::Apart { .. }), "two of four");
}
