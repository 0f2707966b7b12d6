//! The command line as it is read: usage lines that do not change with the environment, mistakes as text or JSON, and
//! values with errors that teach.
use crate::cli::exit::Exit;
use crate::server::config::parse_duration;
use clap::error::ErrorKind;
use clap::{ArgAction, Command, Parser};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Columns that help is wrapped at; every terminal has them.
pub const COLUMNS: usize = 80;

/// Reads the command line; when there is nothing to carry out, how the program ends.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    let matches = prepared(P::command()).try_get_matches();
    matches.and_then(|matches| P::from_arg_matches(&matches)).map_err(|error| {
        // What is not UTF-8 may be the very mistake.
        let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        let is_json = wants_json(arguments);
        ExitCode::from(tell(&error, is_json) as u8)
    })
}

/// `command` with help that fits a terminal, and with the usage line of each subcommand as it stands in its help:
/// clap's own would ask for a flag whenever the environment sets it.
pub fn prepared(command: Command) -> Command {
    let mut command = command.max_term_width(COLUMNS);
    command.build();
    settle_usage(&mut command);
    command
}

fn settle_usage(command: &mut Command) {
    command.get_subcommands_mut().for_each(settle_usage);
    // `-1` is then read as the value that it was meant to be, and refused in the words of that value.
    *command = std::mem::take(command).mut_args(|arg| match arg.get_action() {
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_negative_numbers(true),
        _ => arg,
    });
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    *command = std::mem::take(command).override_usage(usage);
}

/// Whether JSON is asked for on a command line that cannot be read as a whole.
fn wants_json(arguments: impl Iterator<Item = String>) -> bool {
    let mut before = String::new();
    for argument in arguments.take_while(|argument| argument != "--") {
        let is_alone = ["-ojson", "-o=json", "--output=json"].contains(&argument.as_str());
        if is_alone || (argument == "json" && ["-o", "--output"].contains(&before.as_str())) {
            return true;
        }
        before = argument;
    }
    false
}

fn tell(error: &clap::Error, is_json: bool) -> Exit {
    // Whoever reads may be gone, which changes nothing.
    if !error.use_stderr() {
        drop(error.print());
        return Exit::Ok;
    }
    if is_json {
        let told = serde_json::json!({ "error": words(error), "exit": Exit::Usage as u8 });
        drop(writeln!(std::io::stderr(), "{told}"));
    } else {
        drop(error.print());
    }
    Exit::Usage
}

/// What a program wants to know of a mistake: neither colours nor the usage line.
fn words(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing; --help lists them".to_owned();
    }
    let text = error.render().to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let told = told.strip_prefix("error: ").unwrap_or(told);
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads how many.
pub fn count(text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| "give a whole number, such as 10".to_owned())
}

/// Reads how many where none would be no sense.
pub fn count_min_1(text: &str) -> Result<u64, String> {
    match count(text)? {
        0 => Err("give a whole number from 1 on, such as 10".to_owned()),
        count => Ok(count),
    }
}

/// Reads `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => {
            Err("give KEY=VALUE, such as --set disk.reserve_bytes='1 GiB'; `conveyor config default` lists \
                  the keys"
                .to_owned())
        }
    }
}

/// A duration as settings have it, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_millis).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_on_a_line_with_mistakes() {
        let wants = |line: &str| wants_json(line.split(' ').map(str::to_owned));
        for line in ["read -o json --bad", "-ojson frobnicate", "x --output json", "--output=json"] {
            assert!(wants(line), "{line}");
        }
        for line in ["read json", "read -o text json", "append -- -o json", "-o"] {
            assert!(!wants(line), "{line}");
        }
    }

    #[test]
    fn values_that_cannot_be_say_what_could() {
        assert_eq!((count("1_000"), count_min_1("1")), (Ok(1000), Ok(1)));
        assert!(count("abc").unwrap_err().contains("whole number") && count_min_1("0").is_err());
        assert_eq!(key_value("name = a"), Ok(("name".to_owned(), "a".to_owned())));
        assert!(key_value("foo").unwrap_err().contains("KEY=VALUE") && key_value("=x").is_err());
    }
}
