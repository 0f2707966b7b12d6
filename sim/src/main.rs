//! `cargo run --release -p sim -- storage …`: many seeds, or one again with its trace. See docs/testing.md.
#![expect(clippy::disallowed_methods, reason = "seeds a second are counted by the clock of the machine")]
use sim::storage::{self, Report};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: sim storage --seeds COUNT [--from SEED]
       sim storage --replay SEED";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["storage", "--seeds", count] => seeds(0, count.parse().ok()),
        ["storage", "--seeds", count, "--from", from] => match from.parse() {
            Ok(from) => seeds(from, count.parse().ok()),
            Err(_) => usage(),
        },
        ["storage", "--replay", seed] => seed.parse().map_or_else(|_| usage(), replay),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn seeds(from: u64, count: Option<u64>) -> ExitCode {
    let Some(count) = count else { return usage() };
    let began = Instant::now();
    let mut failed = Vec::new();
    for seed in from..from + count {
        let report = storage::run(seed, false);
        if let Some(why) = &report.failure {
            print_failure(seed, why, &report);
            failed.push(seed);
        }
        if failed.len() == 10 {
            println!("ten seeds failed: enough");
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {:.0} a second; failed: {failed:?}", count as f64 / seconds);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_failure(seed: u64, why: &str, report: &Report) {
    println!("seed {seed} failed: {why}");
    report.last.iter().for_each(|line| println!("    {line}"));
    println!("    again, with everything before: sim storage --replay {seed}");
}

fn replay(seed: u64) -> ExitCode {
    let report = storage::run(seed, true);
    println!("{} events, hash {}", report.event_count, report.hash);
    match report.failure {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("failed: {why}");
            ExitCode::FAILURE
        }
    }
}
