//! What the books of replication take: memory for each log, and time for a comparison in which nothing differs.
#![expect(
    clippy::disallowed_methods,
    reason = "what is measured is the machine: its clock, and its own count of memory"
)]
use crate::traffic::alike;
use conveyor::wire::peer::Prefix;
use std::time::Instant;

/// Memory of this process that no file backs, in bytes; 0 where the system does not say.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Two stores with so many logs of one run and one topic each.
pub fn report(logs: u64) -> String {
    let before = anonymous_bytes();
    let wires = alike(logs);
    let each = anonymous_bytes().saturating_sub(before) / logs / 2;
    let sum = |salt| wires.held(0).leaves(salt, Prefix::ALL).fold(0u64, |sum, leaf| sum.wrapping_add(leaf.1));
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed().as_millis() < 500 {
        std::hint::black_box(sum(rounds));
        rounds += 1;
    }
    let micros = began.elapsed().as_micros() / u128::from(rounds);
    format!("{logs} logs: {each} bytes each, names of topics included; {micros} µs to sum all hashes")
}
