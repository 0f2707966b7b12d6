//! `cargo run --release -p sim -- …`: many seeds, or one again with its trace. See docs/testing.md.
#![expect(clippy::disallowed_methods, reason = "seeds a second are counted by the clock of the machine")]
use sim::cluster::{self, scale, swarm};
use sim::{books, storage, traffic, whole};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: sim swarm --minutes MINUTES [--from SEED]    whole peers: seeds for so long
       sim swarm --seeds COUNT [--from SEED]          so many seeds
       sim replay --seed SEED [--trace]               one of them again
       sim meta --seed SEED                           twice: is it the same?
       sim scale --peers COUNT [--seconds SECONDS]    many peers, without faults
       sim traffic                                    messages and bytes of an appended entry
       sim books                                      memory and time of comparing many logs
       sim whole --seed SEED [--trace|--packets]      whole peers and clients over packets: one seed
       sim whole --seeds COUNT [--from SEED]          so many, each in a process of its own
       sim storage --seeds COUNT [--from SEED]        the log alone: so many seeds
       sim storage --replay SEED                      one of them again";

fn main() -> ExitCode {
    // What a failed check says stands in its report, with what happened before.
    std::panic::set_hook(Box::new(|_| ()));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    command(&words).unwrap_or_else(|| {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    })
}

fn command(words: &[&str]) -> Option<ExitCode> {
    Some(match words {
        ["swarm", "--minutes", minutes] => swarm(0, u64::MAX, Some(minutes_of(minutes)?)),
        ["swarm", "--minutes", minutes, "--from", from] => {
            swarm(from.parse().ok()?, u64::MAX, Some(minutes_of(minutes)?))
        }
        ["swarm", "--seeds", count] => swarm(0, count.parse().ok()?, None),
        ["swarm", "--seeds", count, "--from", from] => swarm(from.parse().ok()?, count.parse().ok()?, None),
        ["replay", "--seed", seed] => replay(&swarm::run(seed.parse().ok()?, false).into()),
        ["replay", "--seed", seed, "--trace"] => {
            let seed = seed.parse().ok()?;
            show_logs();
            replay(&swarm::run(seed, true).into())
        }
        ["meta", "--seed", seed] => meta(seed.parse().ok()?),
        ["scale", "--peers", count] => scale(count.parse().ok()?, 60),
        ["scale", "--peers", count, "--seconds", seconds] => {
            scale(count.parse().ok()?, seconds.parse().ok()?)
        }
        ["traffic"] => say(&traffic::report()),
        ["books"] => say(&[10_000, 100_000].map(books::report).join("\n")),
        ["whole", "--seed", seed] => whole_seed(seed.parse().ok()?, false, false),
        ["whole", "--seed", seed, "--trace"] => whole_seed(seed.parse().ok()?, true, false),
        ["whole", "--seed", seed, "--packets"] => whole_seed(seed.parse().ok()?, true, true),
        ["whole", "--seeds", count] => whole_seeds(0, count.parse().ok()?),
        ["whole", "--seeds", count, "--from", from] => whole_seeds(from.parse().ok()?, count.parse().ok()?),
        ["storage", "--seeds", count] => storage_seeds(0, count.parse().ok()?),
        ["storage", "--seeds", count, "--from", from] => {
            storage_seeds(from.parse().ok()?, count.parse().ok()?)
        }
        ["storage", "--replay", seed] => replay(&storage::run(seed.parse().ok()?, true).into()),
        _ => return None,
    })
}

/// Prints what the peers log beside the trace; `RUST_LOG` says how much, from warnings on by default.
fn show_logs() {
    let default = tracing_subscriber::filter::LevelFilter::WARN.into();
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(default).from_env_lossy();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time();
    lines.with_writer(std::io::stdout).init();
}

fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

fn minutes_of(text: &str) -> Option<Duration> {
    let minutes: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(minutes * 60.0).ok()
}

/// How a run of either tier went.
struct Outcome {
    failure: Option<String>,
    event_count: u64,
    hash: String,
    last: Vec<String>,
    elapsed_ms: u64,
}

impl From<storage::Report> for Outcome {
    fn from(report: storage::Report) -> Self {
        let storage::Report { failure, event_count, hash, last } = report;
        Self { failure, event_count, hash, last, elapsed_ms: 0 }
    }
}

impl From<cluster::report::Report> for Outcome {
    fn from(report: cluster::report::Report) -> Self {
        let cluster::report::Report { failure, event_count, hash, last, elapsed_ms } = report;
        Self { failure, event_count, hash, last, elapsed_ms }
    }
}

fn swarm(from: u64, count: u64, time: Option<Duration>) -> ExitCode {
    seeds(from, count, time, "replay --seed", |seed| swarm::run(seed, false).into())
}

fn storage_seeds(from: u64, count: u64) -> ExitCode {
    seeds(from, count, None, "storage --replay", |seed| storage::run(seed, false).into())
}

fn whole_seed(seed: u64, is_printed: bool, is_detailed: bool) -> ExitCode {
    if is_printed {
        show_logs();
    }
    let setup = whole::Setup { is_printed, is_detailed, ..whole::Setup::peers(whole::swarm::PEERS) };
    let report = whole::swarm::run(seed, setup);
    if let (Some(_), false) = (&report.failure, is_printed) {
        report.last.iter().for_each(|line| println!("    {line}"));
    }
    let simulated_s = report.elapsed_ms / 1000;
    let exit = replay(&report.into());
    println!("{simulated_s} s simulated");
    exit
}

fn whole_seeds(from: u64, count: u64) -> ExitCode {
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let all = whole::many::run(&program, from..from.saturating_add(count), at_once, |seed, told| {
        if !told.is_good {
            println!("seed {seed} failed:\n{}    again: sim whole --seed {seed} --trace", told.text);
        }
    });
    let failed: Vec<u64> = all.iter().filter(|(_, told)| !told.is_good).map(|(seed, _)| *seed).collect();
    let (ran, seconds) = (all.len(), began.elapsed().as_secs_f64());
    println!("{ran} seeds in {seconds:.1} s; failed: {failed:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds until there were enough, the time is over, or ten failed.
fn seeds(
    from: u64,
    count: u64,
    time: Option<Duration>,
    again: &str,
    run: impl Fn(u64) -> Outcome,
) -> ExitCode {
    let (began, mut failed, mut ran, mut simulated_ms) = (Instant::now(), Vec::new(), 0, 0);
    for seed in from..from.saturating_add(count) {
        if time.is_some_and(|time| began.elapsed() >= time) || failed.len() == 10 {
            break;
        }
        let outcome = run(seed);
        (ran, simulated_ms) = (ran + 1, simulated_ms + outcome.elapsed_ms);
        if let Some(why) = &outcome.failure {
            println!("seed {seed} failed: {why}");
            outcome.last.iter().for_each(|line| println!("    {line}"));
            println!("    again, with everything before: sim {again} {seed}");
            failed.push(seed);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let (rate, simulated) = (f64::from(ran) / seconds, simulated_ms / 1000);
    println!(
        "{ran} seeds in {seconds:.1} s, {rate:.1} a second, {simulated} s simulated; failed: {failed:?}"
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(outcome: &Outcome) -> ExitCode {
    println!("{} events, hash {}", outcome.event_count, outcome.hash);
    match &outcome.failure {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("failed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Twice, each in a process of its own: within one, tokio goes on drawing where it stopped.
fn meta(seed: u64) -> ExitCode {
    let once = || {
        let program = std::env::current_exe()?;
        let run =
            std::process::Command::new(program).args(["replay", "--seed", &seed.to_string()]).output()?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&run.stdout).into_owned())
    };
    match (once(), once()) {
        (Ok(first), Ok(second)) => {
            print!("{first}{second}");
            if first == second { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("the program could not be run again: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scale(peer_count: usize, seconds: u64) -> ExitCode {
    let began = Instant::now();
    let report = scale::run(peer_count, seconds);
    let wall = began.elapsed().as_secs_f64();
    let rate = report.elapsed_ms as f64 / 1000.0 / wall;
    println!(
        "{peer_count} peers: {rate:.1} simulated seconds a second, {} events in {wall:.1} s",
        report.event_count
    );
    replay(&report.into())
}
