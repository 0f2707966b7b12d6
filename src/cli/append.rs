//! `conveyor append`: lines, a file, a blob or NDJSON into a topic; an id for each entry, once it is durable.
//!
//! ```text
//! a thread reads --lines--> send (waits for room) --receipts, in order--> ids on standard output
//! ```
use crate::base::limits::PAYLOAD_BYTES_MAX;
use crate::base::{Codec, Durability, Entry, EntryId, TopicName};
use crate::cli::connect::Connection;
use crate::cli::entry_json;
use crate::cli::interrupted;
use crate::cli::output::{Out, progress};
use crate::cli::when::show_time;
use crate::client::{About, Acknowledged, Client, Producer, ProducerOptions, Receipt};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Append entries to a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | conveyor append greetings
  conveyor append logs --file access.log --quiet          an entry for each line
  conveyor append images --blob cat.png --with-key cats         the whole file as one entry
  echo '{\"payload\":\"x\",\"key\":\"k\",\"tags\":[\"a\"],\"headers\":{\"n\":\"v\"}}' | conveyor append jobs --ndjson
  conveyor read jobs -o json | conveyor append copy --ndjson

Prints the id of each entry as soon as it is as durable as asked. An entry is at most 16 MiB.")]
pub struct Append {
    /// The topic; made by its first entry, unless the peer is set otherwise
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// Read lines from a file instead of standard input
    #[arg(long, value_name = "FILE", conflicts_with = "blob")]
    file: Option<PathBuf>,
    /// Append a whole file as one entry; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "ndjson")]
    blob: Option<PathBuf>,
    /// Each line is a JSON object: payload or payload_base64, key, tags, headers, priority, deliver_at, expire_at, unique
    #[arg(long)]
    ndjson: bool,
    /// A key for every entry that names none
    #[arg(long, value_name = "KEY")]
    with_key: Option<String>,
    /// A tag for every entry; may be given more than once
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// What an acknowledgement means: fsync or buffered [default: as the topic is set]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,
    /// Compress what is sent together, as one zstd frame each
    #[arg(long)]
    compress: bool,
    /// Print no ids
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Entries that a reading thread hands over at once.
const BURST: usize = 256;

impl Append {
    /// Appends all, and waits for every acknowledgement.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        out.go_on_alone();
        let source = self.source()?;
        let client = self.connection.client().await?;
        let options = ProducerOptions {
            durability: self.durability,
            codec: if self.compress { Codec::Zstd } else { Codec::None },
            ..ProducerOptions::default()
        };
        let producer = client.producer(self.topic.clone(), options).await?;
        let ended = self.pump(&client, &producer, source, out).await;
        let closed = producer.close().await;
        client.close().await;
        ended.and(closed.map_err(Into::into))
    }

    async fn pump(&self, client: &Client, producer: &Producer, source: Source, out: &mut Out) -> Result<()> {
        let Source { mut entries, bar } = source;
        let (mut receipts, mut is_open) = (VecDeque::new(), true);
        let stop = interrupted();
        tokio::pin!(stop);
        while is_open || !receipts.is_empty() {
            tokio::select! {
                biased;
                acknowledged = front(&mut receipts), if !receipts.is_empty() => {
                    receipts.pop_front();
                    self.print(&client.about(), &acknowledged?, out)?;
                    if receipts.is_empty() {
                        out.flush()?;
                    }
                }
                burst = entries.recv(), if is_open => match burst {
                    None => is_open = false,
                    Some(burst) => for entry in burst? {
                        bar.inc(entry.payload.len() as u64 + 1);
                        receipts.push_back(producer.send(self.dressed(entry)).await?);
                    },
                },
                _ = &mut stop, if is_open => is_open = false,
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The entry with what the flags say of all.
    fn dressed(&self, mut entry: Entry) -> Entry {
        if let (true, Some(key)) = (entry.key.is_empty(), &self.with_key) {
            entry.key = Bytes::copy_from_slice(key.as_bytes());
        }
        entry.tags.extend(self.tag.iter().cloned());
        entry
    }

    fn print(&self, about: &About, acknowledged: &Acknowledged, out: &mut Out) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let Acknowledged { id, time, is_repeat } = acknowledged;
        let json = AppendedJson {
            id: short_id(about, &self.topic, id),
            peer: id.peer.to_string(),
            run: id.run.to_string(),
            seq: id.seq.0,
            time: show_time(time.ms()),
            is_repeat: *is_repeat,
        };
        out.show(&json, |json| json.id.clone())
    }

    fn source(&self) -> Result<Source> {
        if let Some(path) = &self.blob {
            return Source::blob(path);
        }
        let (input, bar): (Box<dyn Read + Send>, _) = match &self.file {
            Some(path) => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let bar = progress(file.metadata().ok().map(|metadata| metadata.len()));
                (Box::new(file), bar)
            }
            None => (Box::new(io::stdin()), ProgressBar::hidden()),
        };
        Ok(Source::lines(input, self.ndjson, bar))
    }
}

#[derive(Serialize)]
struct AppendedJson {
    id: String,
    peer: String,
    run: String,
    seq: u64,
    time: String,
    is_repeat: bool,
}

/// An id as people use it: the peer by its name where it is the one we talk to.
fn short_id(about: &About, topic: &TopicName, id: &EntryId) -> String {
    let peer = if about.peer == id.peer { about.name.to_string() } else { id.peer.to_string() };
    format!("{topic}/{peer}.{}/{}", id.run.short(), id.seq)
}

async fn front(receipts: &mut VecDeque<Receipt>) -> Result<Acknowledged, crate::client::ClientError> {
    match receipts.front_mut() {
        Some(receipt) => receipt.await,
        None => std::future::pending().await,
    }
}

/// Where entries come from.
struct Source {
    entries: mpsc::Receiver<Result<Vec<Entry>>>,
    bar: ProgressBar,
}

impl Source {
    fn blob(path: &PathBuf) -> Result<Self> {
        let mut payload = Vec::new();
        let read = |input: &mut dyn Read, payload: &mut Vec<u8>| {
            input.take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(payload)
        };
        match path.to_str() {
            Some("-") => read(&mut io::stdin(), &mut payload)?,
            _ => read(&mut File::open(path).with_context(|| path.display().to_string())?, &mut payload)?,
        };
        if payload.len() > PAYLOAD_BYTES_MAX {
            bail!("{} is larger than an entry may be (16 MiB)", path.display());
        }
        let (sender, entries) = mpsc::channel(1);
        // The channel was made with room for one.
        drop(sender.try_send(Ok(vec![payload.into()])));
        Ok(Self { entries, bar: ProgressBar::hidden() })
    }

    /// Lines, read by a thread of their own: reading standard input cannot be called off.
    fn lines(input: Box<dyn Read + Send>, is_json: bool, bar: ProgressBar) -> Self {
        let (sender, entries) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut reader = BufReader::with_capacity(1 << 20, input);
            let mut number = 0;
            loop {
                let burst = read_burst(&mut reader, is_json, &mut number);
                let is_last = !matches!(&burst, Ok(burst) if !burst.is_empty());
                if matches!(&burst, Ok(burst) if burst.is_empty())
                    || sender.blocking_send(burst).is_err()
                    || is_last
                {
                    return;
                }
            }
        });
        Self { entries, bar }
    }
}

/// The next lines as entries: at least one, and as many more as can be had without waiting. None at the end.
fn read_burst(
    reader: &mut BufReader<Box<dyn Read + Send>>,
    is_json: bool,
    number: &mut u64,
) -> Result<Vec<Entry>> {
    let mut burst = Vec::new();
    while burst.len() < BURST {
        let mut line = Vec::new();
        *number += 1;
        let read = reader.take(PAYLOAD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if line.ends_with(b"\n") {
            line.pop();
        } else if line.len() > PAYLOAD_BYTES_MAX {
            bail!("line {number} is larger than an entry may be (16 MiB)");
        }
        match is_json {
            true if line.is_empty() => continue,
            true => burst.push(entry_json::parse_line(&line).with_context(|| format!("line {number}"))?),
            false => burst.push(line.into()),
        }
        if !reader.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bursts(input: &'static [u8], is_json: bool) -> Result<Vec<Entry>> {
        let mut reader = BufReader::new(Box::new(input) as Box<dyn Read + Send>);
        read_burst(&mut reader, is_json, &mut 0)
    }

    #[test]
    fn lines_become_entries_without_their_ends() {
        let entries = bursts(b"a\n\n b\r\n", false).unwrap();
        let payloads: Vec<_> = entries.iter().map(|entry| &entry.payload[..]).collect();
        assert_eq!(payloads, [&b"a"[..], b"", b" b\r"]);
        assert_eq!(bursts(b"", false).unwrap().len(), 0);
        assert_eq!(bursts(b"no end", false).unwrap()[0].payload, "no end");
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let told = bursts(b"{\"payload\":\"a\"}\n{\n", true).unwrap_err();
        assert!(format!("{told:#}").starts_with("line 2: "), "{told:#}");
    }
}
