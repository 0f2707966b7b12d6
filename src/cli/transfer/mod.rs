//! `conveyor export` and `conveyor import`: a topic as a file of signed batches, and back.
//!
//! Batches travel as they were signed, with the certificates of their peers, so that whoever takes them in can check
//! every entry, and each keeps its name. A peer of another cluster cannot: it takes them as new entries of its own.
mod aside;
pub mod file;
mod range;

use crate::base::{Batch, Seq, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::output::{Out, note, progress, show_bytes, show_count, show_entries};
use crate::cli::usage::count_min_1;
use crate::cli::when::parse_from;
use crate::client::{Client, Exported, Importer, Producer, ProducerOptions};
use crate::wire::outcome::{BlockedReason, Imported, ReadFrom};
use anyhow::{Context as _, Result};
use aside::Written;
use bytes::Bytes;
use clap::{Args, ValueHint};
use file::{FileError, Frame, Reader, Writer};
use range::{End, Until, parse_until};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

/// Write a topic to a file of signed batches.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor export jobs --file jobs.cvy
  conveyor export jobs --file since-yesterday.cvy --from 24h
  conveyor export jobs --file january.cvy --from 2026-01-01 --until 2026-02-01
  conveyor export jobs --set-aside --file kept.cvy   of peers that were removed

Batches are written whole: a file may begin a little before --from, and end a
little behind --until or --limit. Signatures are checked on the way. A file that
exists is not overwritten (exit code 4). What is damaged at the peer is left
out, counted and said: the file is kept, and the command ends with 6.")]
pub struct Export {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// The file to write; one that exists is not overwritten
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Where to begin: start, an id, a time, 10m for ten minutes ago, or a cursor
    #[arg(long, visible_alias = "since", value_name = "WHERE", value_parser = parse_from, allow_hyphen_values = true, default_value = "start")]
    from: ReadFrom,
    /// Where to end: before an id, a time, or 10m for ten minutes ago [default: the end of what is held]
    #[arg(long, value_name = "WHERE", value_parser = parse_until, allow_hyphen_values = true)]
    until: Option<Until>,
    /// Stop after this many entries, counted from where it begins
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = count_min_1)]
    limit: Option<u64>,
    /// Write what the peer asked has set aside of peers that were removed, and nothing else
    #[arg(long, conflicts_with_all = ["from", "until", "limit"])]
    set_aside: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Take in a file that `export` wrote.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor import jobs.cvy      entries keep their ids; those held are skipped
  conveyor import jobs.cvy --as-new --topic old-jobs
                                also from another cluster; entries get new ids

Without --as-new the file must come from the same cluster, and the certificate
must carry the right admin. What was removed at this peer, by retention or a
deletion, stays removed: the rest is taken, and the command ends with 4.")]
pub struct Import {
    /// The file
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Append the entries anew, with ids, times and an order of their own
    #[arg(long)]
    as_new: bool,
    /// The topic to append to [default: the one they came from]
    #[arg(long, value_name = "TOPIC", requires = "as_new", value_parser = |text: &str| TopicName::new(text))]
    topic: Option<TopicName>,
    #[command(flatten)]
    connection: Connection,
}

impl Export {
    /// Reads batches until the end of what is held.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let named = || self.file.display().to_string();
        let file = File::create_new(&self.file).with_context(|| {
            let is_there = self.file.exists();
            let remedy = if is_there { ", which is not overwritten; give another --file" } else { "" };
            format!("{}{remedy}", named())
        })?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let write = async {
            match self.set_aside {
                true => aside::write(&self.topic, &client, file).await,
                false => self.write(&client, file).await,
            }
        };
        let ended = tokio::select! {
            biased;
            () = interrupted() => {
                Err(failure(Exit::Interrupted, "interrupted; the part that was written is removed"))
            }
            ended = write => ended,
        };
        match ended {
            Ok(written) => {
                let Written { batches, entries, trimmed, lost, damaged } = written;
                let counts = serde_json::json!({
                    "file": named(), "batches": batches, "entries": entries,
                    "trimmed": trimmed, "lost": lost, "damaged": damaged
                });
                out.show(&counts, |_| format!("{}, in {}", show_held(entries, batches), named()))?;
                if damaged > 0 {
                    let entries = show_count(damaged, "entry is", "entries are");
                    let remedy = match self.set_aside {
                        true => "`conveyor peer set-aside` says which other peers have them",
                        false => "an export from a peer that has them is whole",
                    };
                    let message = format!(
                        "{entries} damaged or missing at this peer, and not in {}, which is kept; {remedy}",
                        named()
                    );
                    return Err(failure(Exit::Damaged, message));
                }
                Ok(())
            }
            Err(error) => {
                // A part of an export is of no use, and would be in the way of the next.
                drop(std::fs::remove_file(&self.file));
                Err(error)
            }
        }
    }

    async fn write(&self, client: &Client, file: BufWriter<File>) -> Result<Written> {
        let mut end = End::find(client, self.until.clone(), self.limit).await?;
        let mut writer = Writer::begin(file, client.about().cluster, &self.topic)?;
        let mut batches = client.batches(&self.topic, self.from.clone());
        let (mut known, mut written, bar) = (BTreeSet::new(), Written::default(), progress(None));
        while !end.is_reached() {
            let signed = match batches.next().await.transpose()? {
                None => break,
                Some(Exported::Batch(signed)) if end.takes(&signed.batch) => signed,
                Some(Exported::Batch(_)) => continue,
                Some(Exported::Gap(gap)) if !end.misses(&gap) => continue,
                Some(Exported::Gap(gap)) => {
                    let entries = show_entries(gap.from.0, gap.until.0);
                    note(format!("gone: {entries} of run {} ({:?})", gap.run, gap.reason));
                    written.count(&gap);
                    continue;
                }
                Some(Exported::Blocked(blocked)) => {
                    let what = format!(
                        "entries from {} of run {} cannot be read ({:?})",
                        blocked.from, blocked.run, blocked.reason
                    );
                    let is_ahead = blocked.reason == BlockedReason::Ahead;
                    return Err(failure(if is_ahead { Exit::Ahead } else { Exit::Damaged }, what));
                }
            };
            if known.insert(signed.batch.statement().log.peer) {
                writer.certificate(&signed.certificate)?;
            }
            writer.batch(&signed.batch)?;
            bar.inc(signed.batch.bytes().len() as u64);
        }
        bar.finish_and_clear();
        written.end(writer)
    }
}

/// What an import did.
#[derive(Default)]
struct Done {
    taken: u64,
    held: u64,
    trimmed: u64,
    entries: u64,
    bytes: u64,
}

impl Import {
    /// Reads the file and hands its batches to the peer.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let file = open(&self.file)?;
        let client = self.connection.client().await?;
        let imported = match self.as_new {
            true => self.append(&client, file).await,
            false => self.import(&client, file).await,
        };
        let Done { taken, held, trimmed, entries, bytes } = imported?;
        let counts = serde_json::json!({
            "batches": taken, "held_already": held, "trimmed": trimmed, "entries": entries, "bytes": bytes
        });
        out.show(&counts, |_| {
            let (held, size) = (show_count(held, "batch", "batches"), show_bytes(bytes));
            format!("{}, {size}; held already: {held}", show_held(entries, taken))
        })?;
        if trimmed > 0 {
            let batches = show_count(trimmed, "batch was", "batches were");
            let message = format!(
                "{batches} removed here, by retention or a deletion, and stay so; --as-new appends their entries anew"
            );
            return Err(failure(Exit::Refused, message));
        }
        Ok(())
    }

    async fn import(&self, client: &Client, mut file: Reader<BufReader<File>>) -> Result<Done> {
        if file.cluster != client.about().cluster {
            let message = format!(
                "{} comes from cluster {}, and the peer belongs to {}; --as-new appends its entries anew",
                self.file.display(),
                file.cluster,
                client.about().cluster
            );
            return Err(failure(Exit::Refused, message));
        }
        let mut window = Window::new(client.importer(&file.topic).await?, self.bar());
        let mut certificates = Vec::new();
        while let Some(frame) = self.next(&mut file)? {
            match frame {
                Frame::Certificate(der) => certificates.push(Bytes::from(der)),
                Frame::Batch(batch) => window.send(certificate_of(&certificates, &batch)?, batch).await?,
                Frame::Aside(..) => {
                    let message = format!(
                        "{} has entries of a peer that was removed, which do not count; --as-new appends them anew",
                        self.file.display()
                    );
                    return Err(failure(Exit::Refused, message));
                }
            }
        }
        window.finish().await
    }

    async fn append(&self, client: &Client, mut file: Reader<BufReader<File>>) -> Result<Done> {
        let topic = self.topic.clone().unwrap_or_else(|| file.topic.clone());
        let producer = client.producer(topic, ProducerOptions::default()).await?;
        let (mut done, bar) = (Done::default(), self.bar());
        while let Some(frame) = self.next(&mut file)? {
            let (batch, from) = match frame {
                Frame::Certificate(_) => continue,
                Frame::Batch(batch) => (batch, Seq::FIRST),
                Frame::Aside(batch, from) => (batch, from),
            };
            batch.check_entries().map_err(|error| failure(Exit::Damaged, error.to_string()))?;
            send_all(&producer, &batch, from).await?;
            done.count_from(&batch, from);
            bar.inc(batch.bytes().len() as u64);
        }
        producer.close().await?;
        bar.finish_and_clear();
        Ok(done)
    }

    fn next(&self, file: &mut Reader<BufReader<File>>) -> Result<Option<Frame>> {
        file.take().map_err(|error| told(&self.file, error))
    }

    fn bar(&self) -> indicatif::ProgressBar {
        progress(std::fs::metadata(&self.file).ok().map(|metadata| metadata.len()))
    }
}

/// Batches on their way, so that many share one flush of the peer's disk. Their order is kept, and each is counted when
/// the peer says what became of it.
struct Window {
    importer: Importer,
    under_way: VecDeque<Batch>,
    bytes: usize,
    done: Done,
    bar: indicatif::ProgressBar,
}

/// Batches on their way take this much memory at the peer, at most; one always goes.
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Batches on their way at most.
const WINDOW_COUNT_MAX: usize = 512;

impl Window {
    fn new(importer: Importer, bar: indicatif::ProgressBar) -> Self {
        Self { importer, under_way: VecDeque::new(), bytes: 0, done: Done::default(), bar }
    }

    async fn send(&mut self, certificate: Bytes, batch: Batch) -> Result<()> {
        let bytes = batch.cost_bytes();
        while self.bytes + bytes > WINDOW_BYTES_MAX || self.under_way.len() >= WINDOW_COUNT_MAX {
            if !self.wait().await? {
                break;
            }
        }
        self.importer.send(certificate, &batch).await?;
        self.bytes += bytes;
        self.under_way.push_back(batch);
        Ok(())
    }

    /// Waits for the oldest; false when none is on its way.
    async fn wait(&mut self) -> Result<bool> {
        let Some(batch) = self.under_way.pop_front() else { return Ok(false) };
        self.bytes -= batch.cost_bytes();
        self.done.count(&batch, self.importer.outcome().await?);
        self.bar.inc(batch.bytes().len() as u64);
        Ok(true)
    }

    async fn finish(mut self) -> Result<Done> {
        self.importer.finish();
        while self.wait().await? {}
        self.bar.finish_and_clear();
        Ok(self.done)
    }
}

impl Done {
    fn count(&mut self, batch: &Batch, outcome: Imported) {
        match outcome {
            Imported::New => {}
            Imported::Held => return self.held += 1,
            Imported::Trimmed => return self.trimmed += 1,
        }
        self.count_from(batch, Seq::FIRST);
    }

    /// Entries of a batch from a number on were taken.
    fn count_from(&mut self, batch: &Batch, from: Seq) {
        self.taken += 1;
        self.entries += file::aside_count(batch, from);
        self.bytes += batch.bytes().len() as u64;
    }
}

fn show_held(entries: u64, batches: u64) -> String {
    format!("{} in {}", show_count(entries, "entry", "entries"), show_count(batches, "batch", "batches"))
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>> {
    let file = File::open(path).map_err(|error| told(path, FileError::Io(error)))?;
    Reader::begin(BufReader::with_capacity(1 << 20, file)).map_err(|error| told(path, error))
}

fn told(path: &Path, error: FileError) -> anyhow::Error {
    let exit = match &error {
        FileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
        FileError::Io(_) => Exit::Failure,
        FileError::Magic => Exit::Usage,
        FileError::Version { .. } => Exit::Refused,
        FileError::Cut { .. } | FileError::Damaged { .. } => Exit::Damaged,
    };
    failure(exit, format!("{}: {error}", path.display()))
}

fn certificate_of(certificates: &[Bytes], batch: &Batch) -> Result<Bytes> {
    let peer = batch.statement().log.peer;
    let is_its = |der: &&Bytes| crate::identity::Certificate::parse(der).is_ok_and(|found| found.key == peer);
    let found = certificates.iter().find(is_its).cloned();
    found.ok_or_else(|| {
        failure(Exit::Damaged, format!("the file has batches of {peer} without its certificate"))
    })
}

async fn send_all(producer: &Producer, batch: &Batch, from: Seq) -> Result<()> {
    let mut entries = Vec::new();
    batch.for_each_entry(|id, _, view| {
        entries.extend((id.seq >= from).then(|| view.to_entry()));
        true
    })?;
    for mut entry in entries {
        entry.producer = None;
        // The producer keeps the first error for `close`.
        drop(producer.send(entry).await?);
    }
    Ok(())
}
