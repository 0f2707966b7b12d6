//! The command line: noun and verb, text or JSON, exit codes that scripts may rely on.
//!
//! Each command is a file of its own, which holds its flags, the words that explain them, and what it does. Results go
//! to standard output, everything else to standard error. `anyhow` lives here and nowhere else.
//!
//! This module never knows how a peer does what it is asked.
#![allow(
    clippy::disallowed_methods,
    reason = "the program: it reads clocks, files and the terminal for the rest"
)]

mod append;
mod bench;
mod clock;
mod cluster;
mod config;
mod connect;
mod credentials;
mod cursor_file;
mod entry_json;
mod exit;
mod get;
mod group;
mod inspect;
mod lines;
mod output;
mod patience;
mod peer;
mod read;
mod run_file;
mod serve;
mod status;
mod sync;
mod told;
mod topic;
mod transfer;
mod usage;
mod verify;
mod when;
mod work;

/// The file of signed batches, for tests that read what nobody wrote.
pub use transfer::file as export_file;

use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Format, Out};
use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

/// A replicated log without a leader: append anywhere, read anywhere, rewind any time.
#[derive(Debug, Parser)]
#[command(name = "conveyor", version, after_help = EXAMPLES)]
struct Program {
    /// How results are printed: text, or json with one value a line
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        value_name = "FORMAT",
        display_order = 500
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
A first tour, in two terminals:
  conveyor serve                          a peer on 127.0.0.1:8011
  echo hello | conveyor append greetings  prints the new entry's id
  conveyor read greetings                 prints hello
  conveyor tail greetings                 prints what comes, until Ctrl-C

`conveyor help COMMAND` explains each with examples.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused,
5 no peer reached, 6 damaged data, 7 timeout, 8 disk full,
9 position ahead of the peer, 10 an unhealthy cluster,
130 interrupted by Ctrl-C.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a peer
    Serve(serve::Serve),
    /// Make a cluster: its id, its authority, and this peer's certificate
    Init(credentials::Init),
    /// Make and show certificates
    #[command(subcommand)]
    Cert(credentials::Cert),
    /// Create, list, show, set and delete topics
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Append entries to a topic
    Append(append::Append),
    /// Read a topic up to the end of what is held
    Read(read::Read),
    /// Follow a topic
    Tail(read::Tail),
    /// Get entries by their ids
    Get(get::Get),
    /// Let consumers share a topic's entries
    #[command(subcommand)]
    Group(group::Group),
    /// Run a command for each entry of a group
    Work(work::Work),
    /// Show how a peer is doing
    Status(status::Status),
    /// Show the peers of the cluster
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Show what a peer lacks, and why
    #[command(subcommand)]
    Sync(sync::Sync),
    /// Remove a peer for good, and see what is set aside of it
    #[command(subcommand)]
    Peer(peer::Peer),
    /// Check everything in a data directory, while no peer runs on it
    Verify(verify::Verify),
    /// Show the records of one file of a data directory
    Inspect(inspect::Inspect),
    /// Write a topic to a file of signed batches
    Export(transfer::Export),
    /// Take in a file that `export` wrote
    Import(transfer::Import),
    /// Measure a peer, and the machine it runs on
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print or check settings
    #[command(subcommand)]
    Config(config::Config),
    /// Decisions that wait for a trusted clock
    #[command(subcommand)]
    Clock(clock::Clock),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  conveyor completions bash > /etc/bash_completion.d/conveyor
  conveyor completions fish > ~/.config/fish/completions/conveyor.fish
  source <(conveyor completions zsh)")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the program was called with.
pub fn run() -> ExitCode {
    let program = match usage::parse::<Program>() {
        Ok(program) => program,
        Err(ended) => return ended,
    };
    let mut out = Out::new(program.output);
    let ended = carry_out(program.command, &mut out).and_then(|exit| out.flush().map(|()| exit));
    let exit = ended.unwrap_or_else(|error| {
        // What was printed before the error is a result too. Should it fail as well, the first error counts.
        drop(out.flush());
        tell(&error)
    });
    ExitCode::from(exit as u8)
}

fn tell(error: &anyhow::Error) -> Exit {
    let exit = exit::of(error);
    if exit != Exit::Ok {
        output::error(exit::words(error), exit);
    }
    exit
}

fn carry_out(command: Command, out: &mut Out) -> Result<Exit> {
    config::check_variables()?;
    match command {
        Command::Serve(serve) => return wait_for(serve.run()),
        Command::Init(init) => init.run(out)?,
        Command::Cert(cert) => cert.run(out)?,
        Command::Topic(topic) => wait_for(unless_interrupted(topic.run(out)))?,
        Command::Append(append) => wait_for(append.run(out))?,
        Command::Read(read) => wait_for(read.run(out))?,
        Command::Tail(tail) => wait_for(tail.run(out))?,
        Command::Get(get) => return wait_for(unless_interrupted(get.run(out))),
        Command::Group(group) => return wait_for(unless_interrupted(group.run(out))),
        Command::Work(work) => return wait_for(work.run(out)),
        Command::Status(status) => wait_for(unless_interrupted(status.run(out)))?,
        Command::Cluster(cluster) => return wait_for(unless_interrupted(cluster.run(out))),
        Command::Sync(sync) => wait_for(unless_interrupted(sync.run(out)))?,
        Command::Peer(peer) => wait_for(unless_interrupted(peer.run(out)))?,
        Command::Verify(verify) => return verify.run(out),
        Command::Inspect(inspect) => inspect.run(out)?,
        Command::Export(export) => wait_for(export.run(out))?,
        Command::Import(import) => wait_for(unless_interrupted(import.run(out)))?,
        Command::Bench(bench) => bench.run(out)?,
        Command::Config(config) => config.run(out)?,
        Command::Clock(clock) => wait_for(unless_interrupted(clock.run(out)))?,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut usage::prepared(Program::command()), "conveyor", &mut text);
            out.bytes(&text)?;
        }
    }
    Ok(Exit::Ok)
}

/// Runs a command that waits, on as many threads as there are cores; then closes its connections.
fn wait_for<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let ended = command.await;
        connect::close_all().await;
        ended
    })
}

/// Runs what has an end of its own, unless Ctrl-C comes first.
async fn unless_interrupted<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = interrupted() => Err(failure(Exit::Interrupted, "interrupted before it was done")),
        ended = command => ended,
    }
}

/// Resolves on Ctrl-C, and on the signal that service managers send.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => (),
            _ = terminate.recv() => (),
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_and_flags_fit_together() {
        Program::command().debug_assert();
        usage::prepared(Program::command()).debug_assert();
    }

    #[test]
    fn every_page_of_help_fits_a_terminal_and_has_an_example() {
        fn check(command: &mut clap::Command) {
            for page in [command.render_help().to_string(), command.render_long_help().to_string()] {
                for line in page.lines() {
                    assert!(line.chars().count() <= usage::COLUMNS, "{}: {line}", command.get_name());
                }
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                for line in after.lines() {
                    assert!(page.lines().any(|shown| shown == line), "it is wrapped once more: {line}");
                }
                let is_leaf = command.get_subcommands().next().is_none();
                assert!(!is_leaf || page.contains("Example"), "{} has no example", command.get_name());
            }
            let commands = command.get_subcommands_mut().filter(|command| command.get_name() != "help");
            commands.for_each(check);
        }
        check(&mut usage::prepared(Program::command()));
    }

    #[test]
    fn the_document_names_every_command() {
        let document = include_str!("../../docs/cli.md");
        for command in Program::command().get_subcommands() {
            let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name()).collect();
            for verb in if verbs.is_empty() { vec![""] } else { verbs } {
                let shown = format!("`conveyor {} {verb}", command.get_name());
                assert!(document.contains(shown.trim_end()), "docs/cli.md lacks {shown}");
            }
        }
    }
}
