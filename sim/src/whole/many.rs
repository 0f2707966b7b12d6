//! Many seeds, each in a process of its own: what a seed does follows from it only where tokio's counter of the process begins
//! anew.
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a program that ran one seed said, and whether that held.
#[derive(Debug, Clone)]
pub struct Told {
    /// Whether it held.
    pub is_good: bool,
    /// What it said.
    pub text: String,
}

/// Runs `program whole --seed SEED` for each of so many seeds, so many at once, until ten failed. `tell` hears of each as soon as
/// it is done.
pub fn run(
    program: &Path,
    seeds: std::ops::Range<u64>,
    at_once: usize,
    tell: impl Fn(u64, &Told) + Sync,
) -> BTreeMap<u64, Told> {
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        loop {
            let failed = lock().values().filter(|told: &&Told| !told.is_good).count();
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed >= 10 {
                return;
            }
            let told = one(program, seed);
            tell(seed, &told);
            lock().insert(seed, told);
        }
    };
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one seed.
pub fn one(program: &Path, seed: u64) -> Told {
    match Command::new(program).args(["whole", "--seed", &seed.to_string()]).output() {
        Ok(run) => {
            Told { is_good: run.status.success(), text: String::from_utf8_lossy(&run.stdout).into_owned() }
        }
        Err(error) => Told { is_good: false, text: format!("the program could not be run: {error}") },
    }
}
