//! The whole stack goes the same way with the same seed, in another process too, and the first seeds hold.
#![allow(clippy::disallowed_methods, reason = "it runs the program")]
use sim::whole::many;
use std::path::Path;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sim"))
}

#[test]
fn the_same_seed_goes_the_same_way_packet_by_packet() {
    let [first, again, other] = [3, 3, 8].map(|seed| many::one(program(), seed));
    assert!(first.is_good && first.text.contains(" events, hash "), "{}", first.text);
    assert_eq!(first.text, again.text);
    assert_ne!(first.text, other.text);
}

#[test]
fn the_first_seeds_hold() {
    let all = many::run(program(), 0..25, 2, |_, _| ());
    for (seed, told) in &all {
        assert!(told.is_good, "seed {seed}: {}", told.text);
    }
    assert_eq!(all.len(), 25);
}
