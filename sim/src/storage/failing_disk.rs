//! Stories of disks that fail or are full, told like those in `scenarios`.
use crate::storage::plan::{End, Outcome};
use crate::storage::scenarios::{appends, reopen_and_check};
use crate::storage::{JOBS, METRICS, ORDERS, Scenario, TRACES};
use conveyor::disk::Fault;

/// F7: a flush fails, the process starts again and reads clean-looking pages; then power goes.
#[test]
fn what_was_read_back_after_a_failed_flush_survives_the_power_loss_after_it() {
    for (seed, plan) in [
        (1, appends(JOBS, 5, 100, true)),
        (2, appends(METRICS, 5, 100, true)),
        (3, appends(JOBS, 5, 3000, true)),
    ] {
        for nth in 1..3 {
            let mut t = Scenario::seed(seed);
            t.write(0, &[appends(METRICS, 3, 100, false), appends(JOBS, 1, 10, true)]);
            t.sites[0].control.inject(Fault::sync_error().nth(nth));
            t.sites[0].harm.is_armed = true;
            t.write(0, std::slice::from_ref(&plan));
            t.calm(0);
            t.process_crash();
            t.append(METRICS, 2, 50);
            t.write(0, &[appends(METRICS, 2, 50, true)]);
            reopen_and_check(&mut t);
        }
    }
}

/// F11: on a full disk appends are refused, reads go on, a trim passes, and room comes back with the segments it frees.
#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    let mut t = Scenario::seed(4);
    for _ in 0..20 {
        t.append(JOBS, 5, 1500);
        assert!(t.maintain(0));
    }
    t.fill(0, 8192);
    let outcomes: Vec<Outcome> = (0..20).map(|_| t.append(ORDERS, 5, 3000)).collect();
    assert!(outcomes.contains(&Outcome::Refused) && !outcomes.contains(&Outcome::Dead));
    t.check(0);
    assert_eq!(t.trim(JOBS, 5), Outcome::Done);
    t.calm(0);
    assert!(t.maintain(0));
    assert_eq!(t.append(ORDERS, 5, 3000), Outcome::Done);
    reopen_and_check(&mut t);
}

/// Seed 214194: a refused step leaves a batch where the log could go on, and then the log goes on in another segment.
#[test]
fn what_a_refused_step_left_behind_is_not_taken_over_in_place_of_what_followed() {
    let mut t = Scenario::seed(14);
    t.append(METRICS, 3, 100);
    t.fill(0, 0);
    let refused = t.write(0, &[appends(METRICS, 2, 100, false), appends(TRACES, 8, 3000, false)]);
    assert_eq!(refused, Outcome::Refused);
    assert_eq!(t.trim(METRICS, 0), Outcome::Done, "the next batch goes to a new segment");
    t.calm(0);
    assert_eq!(t.append(METRICS, 4, 100), Outcome::Done);
    t.process_crash();
    t.follow(0);
}

/// F7: the system tells of a failed sync once. What it covered is not known, so nothing is promised on top of it.
fn nothing_is_acknowledged_after(
    t: &mut Scenario,
    fault: Fault,
    failing: impl FnOnce(&mut Scenario) -> bool,
) {
    t.sites[0].control.inject(fault);
    t.sites[0].harm.is_armed = true;
    assert!(!failing(t), "the sync failed");
    t.sites[0].control.clear_faults();
    for topic in [ORDERS, TRACES] {
        let outcome = t.write(0, &[appends(topic, 2, 100, true)]);
        assert_eq!(outcome, Outcome::Dead, "later syncs succeed, and prove nothing");
    }
    let waits = t.sites[0].live.as_ref().is_some_and(|live| !live.rotations.is_empty());
    assert!(!waits || !t.sites[0].checkpoint(&mut t.shared), "no checkpoint covers it");
    t.calm(0);
    reopen_and_check(t);
}

#[test]
fn after_a_failed_sync_of_the_journal_nothing_is_acknowledged() {
    // In some of them the sync is that of a file that is full.
    for count in 0..24 {
        let mut t = Scenario::seed(15);
        (0..count).for_each(|_| assert_eq!(t.append(JOBS, 3, 1500), Outcome::Done));
        let fault = Fault::sync_error().under("journal/").nth(1);
        nothing_is_acknowledged_after(&mut t, fault, |t| t.append(JOBS, 3, 1500) == Outcome::Done);
    }
}

#[test]
fn after_a_failed_sync_of_a_segment_nothing_is_acknowledged() {
    let fault = || Fault::sync_error().under("topics/metrics/").nth(1);
    let mut t = Scenario::seed(16);
    t.append(METRICS, 3, 100);
    let append = |t: &mut Scenario| t.write(0, &[appends(METRICS, 3, 100, true)]) == Outcome::Done;
    nothing_is_acknowledged_after(&mut t, fault(), append);
    let mut t = Scenario::seed(17);
    while t.sites[0].live.as_ref().is_some_and(|live| live.rotations.is_empty()) {
        t.write(0, &[appends(METRICS, 1, 100, false), appends(JOBS, 3, 2000, true)]);
    }
    nothing_is_acknowledged_after(&mut t, fault(), |t| t.sites[0].checkpoint(&mut t.shared));
}

/// Opening a full disk gives a clear error or a peer that refuses appends; with room everything is there.
#[test]
fn a_full_disk_is_opened_or_refused_clearly_and_nothing_is_lost() {
    let (mut opened, mut refused) = (0, 0);
    for (left, steps) in (0..12).map(|pages| pages * 8192).flat_map(|left| [(left, 4), (left, 60)]) {
        for end in [End::Process, End::Power] {
            let mut t = Scenario::seed(left + steps);
            for _ in 0..steps {
                // Without a checkpoint between them all journal files are in use.
                let (small, large) = (appends(ORDERS, 2, 500, true), appends(JOBS, 3, 1500, true));
                t.write(0, &[small, large, appends(METRICS, 2, 200, false)]);
            }
            t.fill(0, left);
            t.end(0, end);
            for _ in 0..2 {
                if !t.open(0) {
                    assert!(t.sites[0].live.is_none(), "what is open serves");
                    refused += 1;
                    continue;
                }
                opened += 1;
                let outcome = t.write(0, &[appends(JOBS, 3, 3000, true), appends(TRACES, 2, 3000, false)]);
                assert_ne!(outcome, Outcome::Dead, "a full disk is no broken one");
                t.end(0, end);
            }
            t.calm(0);
            assert!(t.open(0));
            t.append(JOBS, 3, 3000);
            reopen_and_check(&mut t);
        }
    }
    assert!(opened > 20 && refused > 5, "{opened} opened, {refused} were refused");
}
