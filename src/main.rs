//! The `conveyor` program: see `conveyor help`, or docs/cli.md.
use std::process::ExitCode;

fn main() -> ExitCode {
    conveyor::cli::run()
}
