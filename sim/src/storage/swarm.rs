//! What a seed does: a mix of work and faults whose kinds and rates are drawn for it, so that each seed has a
//! character of its own and rare faults meet each other somewhere.
//!
//! Groce et al., "Swarm Testing", ISSTA 2012.
use crate::random::Random;
use crate::storage::plan::{End, Outcome, Plan};
use crate::storage::scenario::Backup;
use crate::storage::{Scenario, Shared, TOPICS, check};
use conveyor::disk::Fault;

/// How often, in a thousand events, each thing happens. 0: never in this seed.
struct Swarm {
    events: u64,
    restart: u64,
    /// The process dies in the middle of a change.
    fuse: u64,
    /// Calls fail once.
    error: u64,
    full: u64,
    rot_segment: u64,
    rot_journal: u64,
    rot_checkpoint: u64,
    index: u64,
    roll_back: u64,
    misdirect: u64,
    backup: u64,
    copy: u64,
    garbage: u64,
}

impl Swarm {
    fn draw(random: &mut Random) -> Self {
        let mut rate = |one_in: u64, max: u64| if random.one_in(one_in) { random.between(1, max) } else { 0 };
        Self {
            restart: rate(1, 150),
            fuse: rate(2, 150),
            error: rate(3, 80),
            full: rate(5, 50),
            rot_segment: rate(6, 40),
            rot_journal: rate(10, 40),
            rot_checkpoint: rate(14, 30),
            index: rate(4, 80),
            roll_back: rate(24, 20),
            misdirect: rate(24, 20),
            backup: rate(8, 40),
            copy: rate(8, 40),
            garbage: rate(2, 1000),
            events: random.between(20, 160),
        }
    }
}

/// Runs the scenario's seed to its end.
pub fn run(t: &mut Scenario) {
    let swarm = Swarm::draw(&mut t.shared.random);
    t.sites[0].control.set_garbage(swarm.garbage as u16);
    open(t, &swarm, 0);
    let mut backups = Vec::new();
    for _ in 0..swarm.events {
        let site = t.shared.random.below(t.sites.len() as u64) as usize;
        if t.shared.random.one_in(3) {
            fault(t, &swarm, site, &mut backups);
        }
        work(t, &swarm, site);
    }
    for site in 0..t.sites.len() {
        heal(t, site);
        settle(t, site);
    }
}

/// All faults end, power is lost once more, and the site must come back with everything.
fn heal(t: &mut Scenario, site: usize) {
    t.calm(site);
    t.end(site, End::Power);
    assert!(t.open(site), "a healthy directory opens");
    t.follow(site);
}

fn settle(t: &mut Scenario, site: usize) {
    assert!(t.maintain(site));
    let s = &mut t.sites[site];
    assert!(s.flush(&mut t.shared));
    s.check_lock();
    if !s.harm.is_rotten && !s.harm.has_lied {
        check::audit(s);
    }
    s.scrub_round(&mut t.shared);
    t.check(site);
}

fn work(t: &mut Scenario, swarm: &Swarm, site: usize) {
    let choice = t.shared.random.below(1000);
    if choice < swarm.restart {
        let end = *t.shared.random.pick(&[End::Clean, End::Process, End::Power]);
        return restart(t, swarm, site, end, true);
    }
    let is_well = match t.shared.random.below(100) {
        0..60 => {
            let plans = plans(&mut t.shared);
            t.write(site, &plans) != Outcome::Dead
        }
        60..70 => {
            t.follow(site);
            true
        }
        70..74 => {
            t.check(site);
            true
        }
        74..78 => {
            t.seek(site);
            true
        }
        78..82 => t.sites[site].mark(&mut t.shared),
        86..89 => {
            t.sites[site].scrub_piece(&mut t.shared);
            true
        }
        89..91 => {
            t.sites[site].scrub_round(&mut t.shared);
            true
        }
        82..86 if t.sites.len() > 1 => {
            let from = (site + 1) % t.sites.len();
            let count_max = t.shared.random.between(1, 12) as usize;
            t.import(from, site, count_max) != Outcome::Dead
        }
        _ => t.maintain(site),
    };
    let must_maintain = t.sites[site].live.as_ref().is_some_and(|live| live.rotations.len() > 1);
    let is_well = is_well && (!(must_maintain || t.shared.random.one_in(3)) || t.maintain(site));
    if !is_well {
        let end = *t.shared.random.pick(&[End::Process, End::Power]);
        restart(t, swarm, site, end, false);
    }
}

fn restart(t: &mut Scenario, swarm: &Swarm, site: usize, end: End, is_between_steps: bool) {
    let is_kept = |topic: crate::storage::Topic| end != End::Power || !topic.is_buffered();
    let before = t.books(site, is_kept);
    t.end(site, end);
    let is_whole = is_between_steps && !t.sites[site].may_fail();
    let is_at_once = open(t, swarm, site);
    let harm = t.sites[site].harm;
    if is_whole && is_at_once && !harm.is_rotten && !harm.has_lied {
        let after = t.books(site, is_kept);
        before
            .iter()
            .for_each(|(log, books)| assert_eq!(Some(books), after.get(log), "other books after {end:?}"));
        assert_eq!(before.len(), after.len(), "other logs after {end:?}");
    }
}

/// Opens a directory, dying on the way as often as the swarm has it; says whether it opened at once.
fn open(t: &mut Scenario, swarm: &Swarm, site: usize) -> bool {
    for attempt in 0.. {
        if attempt > 3 || t.shared.random.one_in(2) {
            t.calm(site);
        }
        if t.shared.random.chance(swarm.fuse * 2) {
            let count = t.shared.random.below(40);
            t.sites[site].fuse.set(count);
        }
        if t.open(site) {
            t.sites[site].fuse.mend();
            return attempt == 0;
        }
        let end = *t.shared.random.pick(&[End::Process, End::Power]);
        t.end(site, end);
    }
    unreachable!("a calm disk lets it open")
}

fn fault(t: &mut Scenario, swarm: &Swarm, site: usize, backups: &mut Vec<Backup>) {
    let mut happens = |per_mille: u64| t.shared.random.chance(per_mille * 3);
    let (fuse, error, full) = (happens(swarm.fuse), happens(swarm.error), happens(swarm.full));
    let rots = [happens(swarm.rot_segment), happens(swarm.rot_journal), happens(swarm.rot_checkpoint)];
    let (index, back, astray) = (happens(swarm.index), happens(swarm.roll_back), happens(swarm.misdirect));
    let (backup, copy) = (happens(swarm.backup), happens(swarm.copy));
    if fuse {
        let count = t.shared.random.below(30);
        t.sites[site].fuse.set(count);
    }
    if error {
        inject(t, site);
    }
    if full {
        let left = t.shared.random.below(8) * 8192;
        t.fill(site, left);
    }
    for (kind, _) in [".segment", ".journal", "checkpoint"].into_iter().zip(rots).filter(|(_, rots)| *rots) {
        let count = t.shared.random.between(1, 4) as usize;
        t.rot(site, kind, count);
    }
    if index {
        t.spoil_index(site);
    }
    if back {
        if let Some(backup) = backups.last() {
            t.roll_back(site, backup);
        }
        backups.push(t.backup(site));
    }
    if astray {
        t.sites[site].control.inject(Fault::misdirected_write().nth(1));
        t.sites[site].harm.has_lied = true;
        t.shared.trace.note(format_args!("{site} the next write goes astray"));
    }
    if backup {
        match backups.pop() {
            Some(backup) if t.shared.random.one_in(2) => {
                t.restore(site, &backup);
                open(t, swarm, site);
            }
            _ => backups.push(t.backup(site)),
        }
    }
    if copy && t.sites.len() < 3 {
        let copied = t.copy(&t.backup(site));
        open(t, swarm, copied);
    }
}

fn inject(t: &mut Scenario, site: usize) {
    let random = &mut t.shared.random;
    let nth = random.between(1, 6);
    let (name, fault) = match random.below(8) {
        0..3 => ("sync", Fault::sync_error()),
        3 => ("sync_dir", Fault::sync_dir_error()),
        4 => ("write", Fault::write_error()),
        5 => ("open", Fault::open_error()),
        6 => ("name", Fault::name_error()),
        _ => ("read", Fault::read_error()),
    };
    t.sites[site].control.inject(fault.nth(nth));
    t.sites[site].harm.is_armed = true;
    t.shared.trace.note(format_args!("{site} {name} number {nth} will fail"));
}

fn plans(shared: &mut Shared) -> Vec<Plan> {
    let count = if shared.random.one_in(20) { 20 } else { shared.random.between(1, 5) };
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
