//! The same seed goes the same way, in another process too.
#![allow(clippy::disallowed_methods, reason = "it runs the program")]
use std::process::Command;

fn replay(seed: &str) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_sim")).args(["replay", "--seed", seed]).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "seed {seed}: {said}");
    said
}

#[test]
fn the_same_seed_goes_the_same_way() {
    let first = replay("7");
    assert!(first.contains(" events, hash "), "{first}");
    assert_eq!(first, replay("7"));
    assert_ne!(first, replay("3"));
}
