//! Randomness that nobody asks an `Env` for, from the seed: std's `RandomState` asks the system for its keys, and tokio
//! makes the seed of its own generator of them (and of a counter of the process, which is why nothing that a run shows may
//! draw from that: unbiased `select!`, and the watch channel).
//!
//! The system's function is replaced in programs that link the simulator. A thread that runs no simulation gets what the
//! system gives, so tests beside one another do not disturb each other.
#![allow(unsafe_code, reason = "a function of the C library can be replaced in no other way")]
#![allow(clippy::disallowed_methods, reason = "threads without a seed are given what the system has")]
use crate::random::Random;
use std::cell::RefCell;
use std::io::Read;

thread_local! {
    static SEEDED: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// From now on this thread draws from `seed`. Each simulation runs in a thread of its own.
pub fn seed(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(Random::new(seed)));
}

fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    let is_seeded = SEEDED.with_borrow_mut(|seeded| {
        let Some(random) = seeded else { return false };
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.number().to_le_bytes()[..part.len()]);
        }
        true
    });
    if is_seeded { Ok(()) } else { std::fs::File::open("/dev/urandom")?.read_exact(bytes) }
}

/// The C library's function of this name.
///
/// # Safety
///
/// `buffer` must be writable for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, bytes: usize, _flags: u32) -> isize {
    if bytes == 0 {
        return 0;
    }
    // SAFETY: the caller says that these bytes may be written.
    let wanted = unsafe { std::slice::from_raw_parts_mut(buffer, bytes) };
    match fill(wanted) {
        Ok(()) => bytes as isize,
        Err(_) => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    fn drawn_in_a_thread(of: Option<u64>) -> u64 {
        let thread = std::thread::spawn(move || {
            of.into_iter().for_each(seed);
            RandomState::new().hash_one(7)
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_std_draws_follows_from_the_seed_of_the_thread_and_from_nothing_without() {
        assert_eq!(drawn_in_a_thread(Some(1)), drawn_in_a_thread(Some(1)));
        assert_ne!(drawn_in_a_thread(Some(1)), drawn_in_a_thread(Some(2)));
        assert_ne!(drawn_in_a_thread(None), drawn_in_a_thread(None));
    }
}
