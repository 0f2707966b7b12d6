//! What `append` reads: lines, NDJSON or a whole file, as entries that know their line.
//!
//! Lines are read by a thread of their own, since reading standard input cannot be called off.
use crate::base::Entry;
use crate::base::limits::PAYLOAD_BYTES_MAX;
use crate::cli::entry_json::{self, Line};
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{note, progress};
use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Entries that are handed over at once, at most.
const BURST: usize = 256;

/// Where entries come from.
pub struct Source {
    /// The entries, in order; closed behind the last.
    pub bursts: mpsc::Receiver<Burst>,
    /// How far it is.
    pub bar: ProgressBar,
}

/// Entries with the numbers of their lines, and what stands behind them if it could not be read.
#[derive(Debug, Default)]
pub struct Burst {
    /// Each with its line, from 1 on.
    pub entries: Vec<(u64, Entry)>,
    /// The error that ends the input.
    pub failed: Option<anyhow::Error>,
}

impl Source {
    /// The whole of a file, or of standard input (`-`), as one entry.
    pub fn blob(path: &Path) -> Result<Self> {
        let mut payload = Vec::new();
        let read = |input: &mut dyn Read, payload: &mut Vec<u8>| {
            input.take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(payload)
        };
        let named = || path.display().to_string();
        match path.to_str() {
            Some("-") => read(&mut io::stdin(), &mut payload)?,
            _ => read(&mut File::open(path).with_context(named)?, &mut payload).with_context(named)?,
        };
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(failure(Exit::Refused, too_large(&named())));
        }
        let (sender, bursts) = mpsc::channel(1);
        // The channel was made with room for one.
        drop(sender.try_send(Burst { entries: vec![(1, payload.into())], failed: None }));
        Ok(Self { bursts, bar: ProgressBar::hidden() })
    }

    /// The lines of a file.
    pub fn file(path: &Path, is_json: bool) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let bar = progress(file.metadata().ok().map(|metadata| metadata.len()));
        Ok(Self::lines(Box::new(file), is_json, bar))
    }

    /// The lines of standard input.
    pub fn stdin(is_json: bool) -> Self {
        Self::lines(Box::new(io::stdin()), is_json, ProgressBar::hidden())
    }

    fn lines(input: Box<dyn Read + Send>, is_json: bool, bar: ProgressBar) -> Self {
        let (sender, bursts) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut reader = BufReader::with_capacity(1 << 20, input);
            let mut number = 0;
            loop {
                let burst = read_burst(&mut reader, is_json, &mut number);
                let is_last = burst.entries.is_empty() || burst.failed.is_some();
                if sender.blocking_send(burst).is_err() || is_last {
                    return;
                }
            }
        });
        Self { bursts, bar }
    }
}

/// The next lines as entries: at least one, and as many more as can be had without waiting. None at the end.
fn read_burst(reader: &mut BufReader<Box<dyn Read + Send>>, is_json: bool, number: &mut u64) -> Burst {
    let mut burst = Burst::default();
    while burst.entries.len() < BURST {
        match read_entry(reader, is_json, number) {
            Ok(Some(entry)) => burst.entries.push((*number, entry)),
            Ok(None) => break,
            Err(error) => {
                burst.failed = Some(error.context(format!("line {number}")));
                break;
            }
        }
        if !reader.buffer().contains(&b'\n') {
            break;
        }
    }
    burst
}

/// The next line that is an entry, `number` being that of the line before; empty lines between objects are none.
fn read_entry(
    reader: &mut BufReader<Box<dyn Read + Send>>,
    is_json: bool,
    number: &mut u64,
) -> Result<Option<Entry>> {
    loop {
        let mut line = Vec::new();
        *number += 1;
        if reader.take(PAYLOAD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.ends_with(b"\n") {
            line.pop();
        } else if line.len() > PAYLOAD_BYTES_MAX {
            return Err(failure(Exit::Refused, too_large("it")));
        }
        match is_json {
            true if line.iter().all(u8::is_ascii_whitespace) => (),
            true => match entry_json::parse_line(&line)? {
                Line::Entry(entry) => return Ok(Some(entry)),
                Line::Told(told) => note(format!("line {number} is no entry, and passed over: {told}")),
            },
            false => return Ok(Some(line.into())),
        }
    }
}

fn too_large(what: &str) -> String {
    format!("{what} is larger than an entry may be (16 MiB)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(input: &'static [u8], is_json: bool) -> Burst {
        let mut reader = BufReader::new(Box::new(input) as Box<dyn Read + Send>);
        read_burst(&mut reader, is_json, &mut 0)
    }

    #[test]
    fn lines_become_entries_without_their_ends() {
        let entries = burst(b"a\n\n b\r\n", false).entries;
        let payloads: Vec<_> = entries.iter().map(|(_, entry)| &entry.payload[..]).collect();
        assert_eq!(payloads, [&b"a"[..], b"", b" b\r"]);
        assert_eq!(burst(b"", false).entries.len(), 0);
        assert_eq!(burst(b"no end", false).entries[0].1.payload, "no end");
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_takes_none_before_it_along() {
        let broken = burst(b"{\"payload\":\"a\"}\n\n{\n", true);
        assert_eq!(broken.entries.len(), 1);
        let told = format!("{:#}", broken.failed.unwrap());
        assert!(told.starts_with("line 3: "), "{told}");
    }
}
