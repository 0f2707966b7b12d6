//! Stories: what happened once, told in events, so that it never happens again unseen.
use crate::storage::site::Outcome;
use crate::storage::{JOBS, Scenario, run};

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, false), run(seed, false));
    }
    assert_ne!(run(1, false).hash, run(2, false).hash);
}

#[test]
fn a_few_hundred_seeds_keep_every_promise() {
    for seed in 0..300 {
        let report = run(seed, false);
        assert_eq!(report.failure, None, "seed {seed}: {:#?}", report.last);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_power_loss() {
    let mut t = Scenario::seed(1);
    assert_eq!(t.append(JOBS, 10, 100), Outcome::Done);
    t.power_loss();
    t.follow(0);
}
