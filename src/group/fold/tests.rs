use super::*;
use crate::base::EntryId;
use crate::group::testing::{cursor, entry, name, peer, start};
use crate::group::write::{Acks, Done};

const G: &str = "g";

fn id(of: u8, seq: u64) -> WriteId {
    WriteId { peer: peer(of), run: RunId(1), seq: Seq(seq) }
}

fn acks(of: u8, from: u64, until: u64) -> Vec<Acks> {
    vec![Acks { peer: peer(of), run: RunId(1), ranges: vec![(Seq(from), Seq(until))] }]
}

fn create(at: Cursor, replaces: &[WriteId]) -> GroupWrite {
    let settings = GroupSettings::default();
    GroupWrite::Create { group: name(G), start: at, settings, replaces: replaces.to_vec() }
}

fn rewind(at: Cursor, replaces: &[WriteId]) -> GroupWrite {
    GroupWrite::Rewind { group: name(G), start: at, replaces: replaces.to_vec() }
}

fn ack(epochs: &[WriteId], acks: Vec<Acks>) -> GroupWrite {
    GroupWrite::Ack { group: name(G), epochs: epochs.to_vec(), acks, why: Done::Acked }
}

fn grant(epochs: &[WriteId], grants: Vec<Acks>, lease_ms: u64) -> GroupWrite {
    GroupWrite::Grant { group: name(G), epochs: epochs.to_vec(), grants, lease_ms, is_extension: false }
}

fn fold(writes: &[(WriteId, u64, GroupWrite)]) -> Fold {
    let mut fold = Fold::new(peer(9));
    for (id, time, write) in writes {
        fold.apply(*id, Timestamp(*time), write);
    }
    fold
}

fn at(of: u8, seq: u64) -> Key {
    let EntryId { peer, run, seq, .. } = entry(of, 1, seq);
    (peer, run, seq)
}

/// All orders in which each writer's own stay in order.
fn orders(writes: Vec<(WriteId, u64, GroupWrite)>) -> Vec<Vec<(WriteId, u64, GroupWrite)>> {
    if writes.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    let firsts: BTreeSet<PeerId> = writes.iter().map(|write| write.0.peer).collect();
    for first in firsts {
        let index = writes.iter().position(|write| write.0.peer == first).unwrap();
        let mut rest = writes.clone();
        let one = rest.remove(index);
        for mut order in orders(rest) {
            order.insert(0, one.clone());
            all.push(order);
        }
    }
    all
}

#[test]
fn f8_of_two_rewinds_cut_off_from_each_other_one_wins_and_acks_of_the_other_do_not_count() {
    let (a, b) = (id(1, 2), id(2, 1));
    let writes = vec![
        (id(1, 1), 1, create(start(), &[])),
        (a, 10, rewind(cursor(&[(1, 1, 60)]), &[id(1, 1)])),
        (id(1, 3), 11, ack(&[a], acks(1, 61, 91))),
        (b, 12, rewind(start(), &[id(1, 1)])),
        (id(2, 2), 13, ack(&[b], acks(1, 1, 3))),
    ];
    for order in orders(writes) {
        let fold = fold(&order);
        let group = fold.group(&name(G)).unwrap();
        assert_eq!(group.current(), [b], "the later");
        assert!(group.is_done(at(1, 2)) && !group.is_done(at(1, 70)), "61 to 90 come again");
        // Who saw both and rewinds once more replaces both.
        assert_eq!(fold.known(&name(G)).0, [a, b]);
    }
}

#[test]
fn f8_a_group_that_is_deleted_and_made_again_does_not_revive_what_it_was() {
    let writes = vec![
        (id(1, 1), 50, create(start(), &[])),
        (id(1, 2), 51, ack(&[id(1, 1)], acks(1, 1, 9))),
        (id(2, 1), 10, GroupWrite::Delete { group: name(G), replaces: vec![id(1, 1)] }),
        (id(2, 2), 11, create(start(), &[])),
    ];
    for order in orders(writes) {
        let fold = fold(&order);
        let group = fold.group(&name(G)).unwrap();
        assert_eq!(group.current(), [id(2, 2)], "whatever the clocks say");
        assert!(!group.is_done(at(1, 3)));
    }
}

#[test]
fn creations_that_did_not_know_of_each_other_are_one_group_and_outlive_a_deletion_that_did_not_know() {
    let (a, b) = (id(1, 1), id(2, 1));
    let writes = vec![
        (a, 1, create(cursor(&[(1, 1, 100)]), &[])),
        (id(1, 2), 2, ack(&[a], acks(1, 100, 120))),
        (id(1, 3), 3, GroupWrite::Progress { group: name(G), epochs: vec![a], done: cursor(&[(1, 1, 120)]) }),
        (b, 1, create(cursor(&[(1, 1, 50)]), &[])),
        (id(2, 2), 2, ack(&[b], acks(1, 50, 52))),
    ];
    for mut order in orders(writes) {
        let joined = fold(&order);
        let group = joined.group(&name(G)).unwrap();
        assert_eq!((group.current(), group.starts().len()), (&[a, b][..], 2));
        let done = |seq| group.is_done(at(1, seq));
        assert!(done(50) && done(51) && done(100) && done(119), "acks under either count");
        assert!(!done(52) && !done(99) && !done(120));
        assert!(group.is_before(at(1, 49)) && !group.is_before(at(1, 50)));
        order.push((id(3, 1), 9, GroupWrite::Delete { group: name(G), replaces: vec![a] }));
        assert_eq!(fold(&order).group(&name(G)).unwrap().current(), [b]);
    }
}

#[test]
fn f18_sides_that_are_cut_off_unite_above_any_bound() {
    let epoch = id(1, 1);
    let mut fold = fold(&[(epoch, 1, create(start(), &[]))]);
    // Every second entry at one side, every third at the other: holes without end.
    for of in [1u8, 2] {
        let step = u64::from(of) + 1;
        for part in 0..40u64 {
            let ranges = (0..1000).map(|at| (part * 1000 + at) * step).map(|seq| (Seq(seq), Seq(seq + 1)));
            let acks = vec![Acks { peer: peer(1), run: RunId(1), ranges: ranges.collect() }];
            assert!(fold.apply(id(of, part + 2), Timestamp(part), &ack(&[epoch], acks)));
        }
    }
    let group = fold.group(&name(G)).unwrap();
    assert!(group.is_done(at(1, 79_998)) && group.is_done(at(1, 119_997)) && !group.is_done(at(1, 79_999)));
    assert!(group.hole_count() > 39_000);
    let parts = fold.restate();
    assert!(parts.iter().all(|part| part.encode().len() < 128 << 10));
    assert!(parts.is_empty() || parts.len() < 40, "a peer that wrote nothing says nothing again");
}

#[test]
fn what_is_said_of_an_epoch_before_it_comes_is_kept_for_the_last_heard_of() {
    let mut fold = Fold::new(peer(9));
    for seq in 1..=UNKNOWN_EPOCHS_MAX as u64 + 1 {
        fold.apply(id(2, seq), Timestamp(seq), &ack(&[id(1, seq)], acks(1, 5, 6)));
    }
    for (seq, is_kept) in [(1, false), (2, true), (UNKNOWN_EPOCHS_MAX as u64 + 1, true)] {
        let group = name(&format!("g{seq}"));
        let (settings, replaces) = (GroupSettings::default(), vec![]);
        let write = GroupWrite::Create { group: group.clone(), start: start(), settings, replaces };
        fold.apply(id(1, seq), Timestamp(1), &write);
        assert_eq!(fold.group(&group).unwrap().is_done(at(1, 5)), is_kept, "{seq}");
    }
}

#[test]
fn a_grant_counts_once_however_often_it_comes_and_a_rest_ends_what_is_not_held() {
    let epoch = id(1, 1);
    let rest = GroupWrite::Rest { group: name(G), held: acks(1, 2, 3) };
    let mut fold = fold(&[
        (epoch, 1, create(start(), &[])),
        (id(1, 2), 2 << 16, grant(&[epoch], acks(1, 1, 4), 500)),
        (id(1, 2), 2 << 16, grant(&[epoch], acks(1, 1, 4), 500)),
        (id(2, 1), 3 << 16, grant(&[epoch], acks(1, 1, 2), 900)),
        (id(1, 3), 4 << 16, ack(&[epoch], acks(1, 3, 4))),
    ]);
    let granted = |fold: &Fold, seq| fold.group(&name(G)).unwrap().granted(at(1, seq));
    let counts = |fold: &Fold| [1, 2, 3].map(|seq| granted(fold, seq).map(|granted| granted.count));
    assert_eq!(counts(&fold), [Some(2), Some(1), None]);
    assert_eq!(granted(&fold, 2).unwrap().until_unix_ms, 502);
    assert_eq!(fold.group(&name(G)).unwrap().granting(peer(1)), Some(500));
    for _ in 0..2 {
        fold.apply(id(1, 4), Timestamp(5 << 16), &rest);
    }
    assert_eq!(fold.group(&name(G)).unwrap().granting(peer(1)), None);
    assert_eq!(granted(&fold, 2).unwrap().until_unix_ms, 502, "it is out still");
    assert_eq!(granted(&fold, 1).unwrap().until_unix_ms, 903, "another has it");
    fold.apply(id(1, 2), Timestamp(2 << 16), &grant(&[epoch], acks(1, 1, 4), 500));
    assert_eq!(fold.group(&name(G)).unwrap().granting(peer(1)), None, "what came before the rest comes late");
}

#[test]
fn settings_that_were_replaced_never_win_and_a_rewind_keeps_them() {
    let set = |lease_ms, replaces: &[WriteId]| {
        let settings = GroupSettings { lease_ms, ..GroupSettings::default() };
        GroupWrite::Set { group: name(G), settings, replaces: replaces.to_vec() }
    };
    let writes = vec![
        (id(1, 1), 99, create(start(), &[])),
        (id(1, 2), 98, set(1, &[id(1, 1)])),
        (id(2, 1), 5, set(2, &[id(1, 1), id(1, 2)])),
        (id(2, 2), 6, rewind(start(), &[id(1, 1)])),
    ];
    for order in orders(writes) {
        let fold = fold(&order);
        assert_eq!(fold.group(&name(G)).unwrap().settings().lease_ms, 2);
    }
}

/// What everybody must agree on, of a few entries.
type Seen = (GroupName, Vec<WriteId>, GroupSettings, Vec<bool>, Vec<Option<u32>>);

fn seen(fold: &Fold) -> Vec<Seen> {
    let of = |name: &GroupName| {
        let group = fold.group(name).unwrap();
        let keys: Vec<Key> = (1..=2).flat_map(|of| (1..30).map(move |seq| at(of, seq))).collect();
        let done = keys.iter().map(|key| group.is_done(*key)).collect();
        let granted = keys.iter().map(|key| group.granted(*key).map(|granted| granted.count)).collect();
        (name.clone(), group.current().to_vec(), group.settings(), done, granted)
    };
    fold.names().map(of).collect()
}

/// Anything that somebody who knows so much may write.
fn some_write(fold: &Fold, time: u64, draw: &mut impl FnMut(u64) -> u64) -> Option<GroupWrite> {
    let (epochs, settings) = fold.known(&name(G));
    let current = fold.group(&name(G)).map(|group| group.current().to_vec());
    let (log, from) = (1 + draw(2) as u8, 1 + draw(20));
    let range = || acks(log, from, from + 3);
    Some(match (draw(12), current) {
        (0..2, None) => create(start(), &settings),
        (2, Some(_)) => rewind(start(), &epochs),
        (3, Some(_)) if draw(2) == 0 => {
            let replaces = epochs.iter().chain(&settings).copied().collect();
            GroupWrite::Delete { group: name(G), replaces }
        }
        (4, Some(_)) => GroupWrite::Set {
            group: name(G),
            settings: GroupSettings { lease_ms: 1 + time, ..GroupSettings::default() },
            replaces: settings,
        },
        (5..9, Some(current)) => ack(&current, range()),
        (9..11, Some(current)) => grant(&current, range(), 100),
        (11, Some(epochs)) => {
            // It reads on from where all words together are.
            let mut done = fold.progress_of(&start(), &epochs).unwrap_or_else(start);
            let next = Position { peer: peer(log), run: RunId(1), next: Seq(from) };
            match done.positions.iter_mut().find(|at| at.peer == next.peer) {
                Some(at) => at.next = at.next.max(next.next),
                None => done.positions.push(next),
            }
            done.positions.sort();
            GroupWrite::Progress { group: name(G), epochs, done }
        }
        _ => return None,
    })
}

#[test]
fn whatever_is_written_all_who_hear_it_agree_and_so_do_those_who_hear_only_what_is_said_again() {
    let mut state = 1u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        // Three writers, each with a fold of its own, which hear from each other now and then.
        let mut folds: Vec<Fold> = (1..=3).map(|of| Fold::new(peer(of))).collect();
        let mut logs: Vec<Vec<(WriteId, u64, GroupWrite)>> = vec![vec![]; 3];
        let mut heard = [[0usize; 3]; 3];
        for time in 0..60u64 {
            let (who, other) = (draw(3) as usize, draw(3) as usize);
            if draw(3) == 0 && who != other {
                for (id, time, write) in &logs[other][heard[who][other]..] {
                    folds[who].apply(*id, Timestamp(*time), write);
                }
                heard[who][other] = logs[other].len();
                continue;
            }
            let Some(write) = some_write(&folds[who], time, &mut draw) else {
                continue;
            };
            let id = id(who as u8 + 1, logs[who].len() as u64 + 1);
            // Clocks differ, and each rises.
            let time = (time + 1) * 10 + who as u64 * 35;
            logs[who].push((id, time, write.clone()));
            folds[who].apply(id, Timestamp(time), &write);
        }
        for fold in &mut folds {
            for (id, time, write) in logs.iter().flatten() {
                fold.apply(*id, Timestamp(*time), write);
            }
        }
        let expected = seen(&folds[0]);
        assert_eq!(seen(&folds[1]), expected);
        assert_eq!(seen(&folds[2]), expected);
        let mut restated = Fold::new(peer(9));
        for (who, fold) in folds.iter_mut().enumerate().rev() {
            for (at, part) in fold.restate().into_iter().enumerate() {
                let again = GroupWrite::decode(&part.encode()).unwrap();
                restated.apply(id(who as u8 + 1, 1000 + at as u64), Timestamp(9_999), &again);
            }
        }
        assert_eq!(seen(&restated), expected);
    }
}
