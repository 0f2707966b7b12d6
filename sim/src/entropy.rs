//! Randomness that nobody asks an `Env` for, from the seed: std's `RandomState` asks the system for its keys, tokio makes the
//! seed of its own generator of them (and of a counter of the process, which is why a seed of the whole stack runs in a
//! process of its own), and ring, rustls, quinn and chitchat draw keys, names and jitter.
//!
//! ```text
//! std, rand ──> getrandom ──────────┐
//!               getentropy ─────────┼──> a thread with a seed: the seed · any other: the system
//! ring ───────> syscall(getrandom) ─┘
//! ```
//!
//! The system's functions are replaced in programs that link the simulator. A thread that runs no simulation gets what the
//! system gives, so tests beside one another do not disturb each other.
#![allow(unsafe_code, reason = "a function of the C library can be replaced in no other way")]
#![allow(clippy::disallowed_methods, reason = "threads without a seed are given what the system has")]
use crate::random::Random;
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static SEEDED: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// From now on this thread draws from `seed`. Each simulation runs in a thread of its own.
pub fn seed(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(Random::new(seed)));
}

/// Whether the bytes came from a seed.
fn fill_seeded(bytes: &mut [u8]) -> bool {
    SEEDED.with_borrow_mut(|seeded| {
        let Some(random) = seeded else { return false };
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.number().to_le_bytes()[..part.len()]);
        }
        true
    })
}

fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    if fill_seeded(bytes) { Ok(()) } else { std::fs::File::open("/dev/urandom")?.read_exact(bytes) }
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

/// The C library's function of this name.
///
/// # Safety
///
/// `buffer` must be writable for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut u8, bytes: usize) -> c_int {
    // SAFETY: what is asked of the caller is the same.
    if unsafe { getrandom(buffer, bytes, 0) } < 0 { -1 } else { 0 }
}

/// The number of the system call, on the targets whose convention for it is known here. On others ring's bytes do not follow
/// from the seed.
#[cfg(target_arch = "x86_64")]
const GETRANDOM: c_long = 318;
#[cfg(target_arch = "aarch64")]
const GETRANDOM: c_long = 278;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const GETRANDOM: c_long = -1;

type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// The C library's own function, once it was looked up. No lock of std's: those may call this function.
static OWN: AtomicUsize = AtomicUsize::new(0);
/// "The next library that has it."
const NEXT: *mut c_void = -1_isize as *mut c_void;

fn own() -> Syscall {
    let mut found = OWN.load(Ordering::Relaxed);
    if found == 0 {
        // SAFETY: the name ends with a zero, and the C library is linked to every program.
        found = unsafe { dlsym(NEXT, c"syscall".as_ptr()) } as usize;
        assert_ne!(found, 0, "the C library has this function");
        OWN.store(found, Ordering::Relaxed);
    }
    // SAFETY: it is the function of this name, whose arguments all travel in registers and on the stack as words.
    unsafe { std::mem::transmute::<usize, Syscall>(found) }
}

/// The C library's function of this name, which passes on all calls but one.
///
/// # Safety
///
/// What the system call asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == GETRANDOM && b > 0 {
        // SAFETY: this call's first two arguments are a place that may be written, and its size.
        let wanted = unsafe { std::slice::from_raw_parts_mut(a as *mut u8, b as usize) };
        if fill_seeded(wanted) {
            return b;
        }
    }
    // SAFETY: the same call with the same arguments.
    unsafe { own()(number, a, b, c, d, e, f) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conveyor::runtime::{Entropy, SystemEntropy};
    use std::hash::{BuildHasher, RandomState};

    fn drawn_in_a_thread(of: Option<u64>) -> [u64; 2] {
        let thread = std::thread::spawn(move || {
            of.into_iter().for_each(seed);
            [RandomState::new().hash_one(7), SystemEntropy::new().draw()]
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_std_and_ring_draw_follows_from_the_seed_of_the_thread_and_from_nothing_without() {
        assert_eq!(drawn_in_a_thread(Some(1)), drawn_in_a_thread(Some(1)));
        for (one, other) in [(Some(1), Some(2)), (None, None), (None, Some(1))] {
            let (one, other) = (drawn_in_a_thread(one), drawn_in_a_thread(other));
            assert!(one.iter().zip(other).all(|(one, other)| *one != other));
        }
    }
}
