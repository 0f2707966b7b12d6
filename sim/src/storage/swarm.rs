//! What a seed does: a mix of work and faults whose rates are drawn for it, so that each seed has a character.
use crate::storage::Scenario;
use crate::storage::site::{End, Outcome, Plan};
use crate::storage::{Shared, TOPICS, check};

/// Runs the scenario's seed to its end.
pub fn run(t: &mut Scenario) {
    let events = t.shared.random.between(20, 120);
    t.open(0);
    for _ in 0..events {
        event(t);
    }
    t.power_loss();
    t.follow(0);
    settle(t);
}

fn settle(t: &mut Scenario) {
    assert!(t.maintain(0));
    let site = &mut t.sites[0];
    assert!(site.flush(&mut t.shared));
    if !site.harm.is_rotten && !site.harm.has_lied {
        check::audit(site);
    }
}

fn event(t: &mut Scenario) {
    match t.shared.random.below(100) {
        0..70 => {
            let plans = plans(&mut t.shared);
            let outcome = t.write(0, &plans);
            if outcome == Outcome::Dead {
                restart(t);
            }
            if t.shared.random.one_in(2) {
                t.maintain(0);
            }
        }
        70..80 => t.follow(0),
        80..85 => t.check(0),
        _ => restart(t),
    }
}

fn restart(t: &mut Scenario) {
    let end = *t.shared.random.pick(&[End::Clean, End::Process, End::Power]);
    let before = t.books(0, |topic| end != End::Power || !topic.is_buffered());
    t.end(0, end);
    t.open(0);
    let after = t.books(0, |topic| end != End::Power || !topic.is_buffered());
    assert_eq!(before, after, "the books are other ones after {end:?}");
}

fn plans(shared: &mut Shared) -> Vec<Plan> {
    let count = shared.random.between(1, 5);
    (0..count).map(|_| plan(shared)).collect()
}

fn plan(shared: &mut Shared) -> Plan {
    let topic = *shared.random.pick(&TOPICS);
    if shared.random.one_in(12) {
        return Plan::Trim { topic, keep: shared.random.below(60) };
    }
    let count = shared.random.between(1, 12);
    let bytes_max = *shared.random.pick(&[20, 100, 1000, 3000]);
    let sizes = (0..count).map(|_| shared.random.between(8, bytes_max) as u32).collect();
    let must_sync = !topic.is_buffered() || shared.random.one_in(6);
    Plan::Append { topic, sizes, must_sync }
}
