//! `conveyor verify`: everything in a data directory, read and checked, while no peer runs on it. Changes nothing.
//!
//! ```text
//! scan    every file: checksums, digests of entries against the signed root, signatures
//! chain   every log: each batch goes on from the one it names, none is missing, and it reaches as far as the
//!         checkpoint and the journal say
//! ```
//!
//! It reads what recovery reads, and more: recovery trusts what it synced, this does not.
mod chain;
mod scan;
#[cfg(test)]
mod tests;

use crate::cli::connect::Place;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, note, progress, show_bytes};
use crate::disk::{Disk as _, FileDisk};
use anyhow::{Context as _, Result};
use clap::Args;
use scan::Scan;
pub use scan::log_of;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// Check everything in a data directory, while no peer runs on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor verify
  conveyor verify --data-dir ./backup -o json

Every batch is read: its checksums, the digest of each entry, the signature of
its peer, and that it goes on from the batch before. What the checkpoint and the
journal say is durable must be there. Nothing is changed. The exit code is 6
when something is damaged or missing. Of what was declared lost, by `conveyor
topic lost --declare`, notes tell. A peer that runs on such a directory serves
all the rest.")]
pub struct Verify {
    #[command(flatten)]
    place: Place,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, or the log.
    pub place: String,
    /// What is wrong, and where.
    pub what: String,
}

#[derive(Serialize)]
struct LogReport {
    topic: String,
    peer: String,
    runs: usize,
    batches: u64,
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Summary {
    files: u64,
    batches: u64,
    entries: u64,
    bytes: u64,
    findings: usize,
}

impl Verify {
    /// Reads and checks all.
    pub fn run(self, out: &mut Out) -> Result<Exit> {
        let dir = self.place.data_dir()?;
        if !dir.join("journal").is_dir() {
            return Err(failure(Exit::NotFound, format!("{} is no data directory of a peer", dir.display())));
        }
        let disk = FileDisk::open(&dir).with_context(|| dir.display().to_string())?;
        let _held = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => failure(
                Exit::Refused,
                format!("a peer runs on {}; stop it first, or verify a copy", dir.display()),
            ),
            _ => error.into(),
        })?;
        let bar = progress(None);
        let mut scan = Scan::of(disk, bar.clone())?;
        let reports = self::chains(&mut scan)?;
        bar.finish_and_clear();
        for report in &reports {
            out.show(&serde_json::json!({ "log": report }), |_| {
                format!(
                    "{} of {}: {} entries in {} batches, {}",
                    report.topic,
                    &report.peer[..8],
                    report.entries,
                    report.batches,
                    show_bytes(report.bytes)
                )
            })?;
        }
        for told in &scan.notes {
            note(format!("conveyor: {told}"));
        }
        for finding in &scan.findings {
            out.show(&serde_json::json!({ "finding": finding }), |_| {
                format!("DAMAGED {}: {}", finding.place, finding.what)
            })?;
        }
        let summary = Summary {
            files: scan.file_count,
            batches: reports.iter().map(|r| r.batches).sum(),
            entries: reports.iter().map(|r| r.entries).sum(),
            bytes: scan.read_bytes,
            findings: scan.findings.len(),
        };
        out.show(&serde_json::json!({ "summary": summary }), |_| {
            let all = if summary.findings == 0 {
                "all good".to_owned()
            } else {
                format!("{} finding(s)", summary.findings)
            };
            format!(
                "{} files, {} entries, {} read: {all}",
                summary.files,
                summary.entries,
                show_bytes(summary.bytes)
            )
        })?;
        Ok(if scan.findings.is_empty() { Exit::Ok } else { Exit::Damaged })
    }
}

fn chains(scan: &mut Scan) -> Result<Vec<LogReport>> {
    let mut reports = Vec::new();
    for (id, chain) in scan.chains()? {
        let topic = scan.topic_words(&id);
        let place = format!("{topic} of {}", id.peer.short());
        let none = BTreeMap::new();
        let known = scan.known.get(&id).unwrap_or(&none);
        let told = chain.check(|run| scan.start_of(&id, run), known, scan.lost_of(&id));
        scan.findings.extend(told.findings.into_iter().map(|what| Finding { place: place.clone(), what }));
        scan.notes.extend(told.notes.into_iter().map(|what| format!("{place}: {what}")));
        reports.push(LogReport {
            topic,
            peer: id.peer.to_string(),
            runs: chain.run_count(),
            batches: chain.batch_count,
            entries: chain.entry_count,
            bytes: chain.bytes,
        });
    }
    Ok(reports)
}
