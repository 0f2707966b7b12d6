//! `conveyor append`: lines, a file, a blob or NDJSON into a topic; an id for each entry, once it is durable.
//!
//! ```text
//! lines: a thread reads ──entries──> feed: send, which waits for room ──receipts, in order──> print: ids
//! ```
//!
//! Whatever ends the input (a line that cannot be read, Ctrl-C, a peer that refuses), the ids of all that was stored are
//! printed before the error.
use crate::base::name::short_run;
use crate::base::{Codec, Durability, Entry, EntryId, PeerId, RunId, TopicId, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::lines::Source;
use crate::cli::output::{self, Out, note, show_count};
use crate::cli::patience::{LOOK_EVERY, Patience, Trouble};
use crate::cli::when::show_time;
use crate::client::{
    About, Acknowledged, AppendError, Client, ClientError, MemberState, Producer, ProducerOptions, Receipt,
};
use crate::wire::outcome::Holder;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Append entries to a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | conveyor append greetings
  conveyor append logs --file access.log --quiet    an entry for each line
  conveyor append images --blob cat.png -k cats     the whole file as one entry
  echo '{\"payload\":\"x\",\"key\":\"k\",\"tags\":[\"a\"]}' \\
    | conveyor append jobs --ndjson
  conveyor read jobs -o json | conveyor append copy --ndjson
  conveyor append orders --durability replicas=3    held by three peers

Prints the id of each entry as soon as it is as durable as asked. An entry is at
most 16 MiB. A line that cannot be read ends it: what stands before that line is
stored, and its ids are printed. While no peer answers it tries again for a
minute. With replicas=N, -o json says who holds each entry. What too few peers
hold in time is stored all the same: its ids are told on standard error, and the
command ends with 7.")]
pub struct Append {
    /// The topic; made by its first entry, unless the peer is set otherwise
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// Read lines from a file instead of standard input, which - stands for
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "blob")]
    file: Option<PathBuf>,
    /// Append a whole file as one entry; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "ndjson")]
    blob: Option<PathBuf>,
    /// Each line is a JSON object: payload or payload_base64, key, tags, headers, priority, deliver_at, expire_at,
    /// unique; docs/cli.md says what each is
    #[arg(long)]
    ndjson: bool,
    /// A key for every entry that names none
    #[arg(short = 'k', long, value_name = "KEY")]
    with_key: Option<String>,
    /// A tag for every entry; may be given more than once
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// What an acknowledgement means: fsync, buffered, or replicas=N: N peers hold it, this one included [default: as the
    /// topic is set]
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
        let ended = tokio::select! {
            biased;
            ended = self.pump(&client, &producer, source, out) => ended,
            () = impatient() => {
                let message = "interrupted twice; what was under way may or may not be stored";
                Err(failure(Exit::Interrupted, message))
            }
        };
        if ended.is_ok() {
            producer.close().await?;
        }
        ended
    }

    /// Feeds and prints side by side, until all that was sent is answered.
    async fn pump(&self, client: &Client, producer: &Producer, source: Source, out: &mut Out) -> Result<()> {
        let (sender, receipts) = mpsc::unbounded_channel();
        let (halt, bar) = (Notify::new(), source.bar.clone());
        let feeding = async {
            tokio::select! {
                biased;
                () = interrupted() => Ok(()),
                () = halt.notified() => Ok(()),
                fed = self.feed(producer, source, sender) => fed,
            }
        };
        let (fed, (stored, printed)) = tokio::join!(feeding, self.print_all(client, receipts, &halt, out));
        bar.finish_and_clear();
        out.flush()?;
        let ended = printed.and(fed);
        if stored == 0 {
            return ended;
        }
        ended.with_context(|| format!("stopped, with {} stored", show_count(stored, "entry", "entries")))
    }

    /// Sends what comes in.
    async fn feed(
        &self,
        producer: &Producer,
        mut source: Source,
        receipts: mpsc::UnboundedSender<Receipt>,
    ) -> Result<()> {
        while let Some(burst) = source.bursts.recv().await {
            for (line, entry) in burst.entries {
                source.bar.inc(entry.payload.len() as u64 + 1);
                let receipt = match producer.send(self.dressed(entry)).await {
                    Err(error @ ClientError::Entry(_)) => {
                        return Err(error).with_context(|| format!("line {line}"));
                    }
                    sent => sent?,
                };
                if receipts.send(receipt).is_err() {
                    return Ok(());
                }
            }
            if let Some(error) = burst.failed {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Prints the id of each entry as it is acknowledged, also behind one that was refused; how many were stored, and
    /// the first error.
    async fn print_all(
        &self,
        client: &Client,
        mut receipts: mpsc::UnboundedReceiver<Receipt>,
        halt: &Notify,
        out: &mut Out,
    ) -> (u64, Result<()>) {
        let (mut stored, mut stored_before, mut front, mut ended) = (0, 0, None, Ok(()));
        let mut twice = Twice::default();
        let (mut look, mut patience) = (tokio::time::interval(LOOK_EVERY), Patience::default());
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = next(&mut front, &mut receipts) => outcome,
                _ = look.tick() => {
                    let is_stuck = front.is_some() && stored == stored_before;
                    let trouble = match client.trouble().map(Trouble::Away) {
                        None if is_stuck && patience.is_worth_a_word(Instant::now()) => Some(self.stuck(client).await),
                        None if is_stuck => continue,
                        trouble => trouble,
                    };
                    patience.look(Instant::now(), trouble).into_iter().for_each(note);
                    stored_before = stored;
                    continue;
                }
            };
            let printed = match outcome {
                None => {
                    twice.tell(client).await;
                    return (stored, ended);
                }
                Some(Err(error)) => {
                    let stored_only = unconfirmed(self.topic_id(client), &error);
                    stored_only.iter().for_each(|entry| self.tell_unconfirmed(&client.about(), entry, out));
                    Err(error.into())
                }
                Some(Ok(acknowledged)) => {
                    stored += 1;
                    twice.add(&acknowledged);
                    let printed = self.print(&client.about(), &acknowledged, out);
                    if receipts.is_empty() { printed.and_then(|()| out.flush()) } else { printed }
                }
            };
            if printed.is_err() {
                halt.notify_one();
                ended = ended.and(printed);
            }
        }
    }

    /// Why nothing was answered for a while: a peer may be waiting for others, or be gone without a word.
    async fn stuck(&self, client: &Client) -> Trouble {
        let name = client.about().name;
        match tokio::time::timeout(PROBE_TIME, client.members()).await {
            Ok(Ok(members)) => {
                let others =
                    members.iter().filter(|member| matches!(member.state, MemberState::Connected { .. }));
                let others: Vec<&str> = others.map(|member| member.name.as_str()).collect();
                let others = if others.is_empty() { "no other peer".to_owned() } else { others.join(", ") };
                Trouble::Slow(format!(
                    "{name} answers, and has not confirmed yet what was sent: it is in session with {others}; waiting"
                ))
            }
            _ => Trouble::Away(format!("{name}: what was sent is not answered")),
        }
    }

    /// Says that an entry is stored, and that too few peers hold it: to standard error, since it is not what was asked for.
    fn tell_unconfirmed(&self, about: &About, entry: &Acknowledged, out: &Out) {
        let json = self.receipt(about, entry);
        match out.is_json() {
            true => output::say_json("unconfirmed", &json),
            false => note(format!("stored, and not confirmed: {}", json.id)),
        }
    }

    fn topic_id(&self, client: &Client) -> TopicId {
        TopicId::of(client.about().cluster, self.topic.as_str())
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
        out.show(&self.receipt(about, acknowledged), |json| json.id.clone())
    }

    fn receipt(&self, about: &About, acknowledged: &Acknowledged) -> AppendedJson {
        let Acknowledged { id, signed_run, time, is_repeat, store, holders, may_also_be_at } = acknowledged;
        let name = (about.peer == id.peer).then(|| about.name.clone());
        let taker = Holder { peer: id.peer, store: *store, name };
        AppendedJson {
            id: short_id(about, &self.topic, id, *signed_run),
            peer: id.peer.to_string(),
            run: id.run.to_string(),
            branch_of: (id.run != *signed_run).then(|| signed_run.to_string()),
            seq: id.seq.0,
            time: show_time(time.ms()),
            is_repeat: *is_repeat,
            holders: holders.iter().map(|holder| holder.peer.to_string()).collect(),
            held_by: [&taker].into_iter().chain(holders).map(HolderJson::of).collect(),
            may_also_be_at: may_also_be_at.iter().map(ToString::to_string).collect(),
        }
    }

    fn source(&self) -> Result<Source> {
        match (&self.blob, &self.file) {
            (Some(path), _) => Source::blob(path),
            (None, Some(path)) if path.as_os_str() != "-" => Source::file(path, self.ndjson),
            _ => Ok(Source::stdin(self.ndjson)),
        }
    }
}

#[derive(Serialize)]
struct AppendedJson {
    id: String,
    peer: String,
    run: String,
    /// The run that forked, where a retry finds its entry in a branch of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch_of: Option<String>,
    seq: u64,
    time: String,
    is_repeat: bool,
    holders: Vec<String>,
    held_by: Vec<HolderJson>,
    /// Peers in whose logs it may be too.
    may_also_be_at: Vec<String>,
}

/// Entries that may be in the log of another peer as well.
#[derive(Default)]
struct Twice {
    count: u64,
    peers: BTreeSet<PeerId>,
}

impl Twice {
    fn add(&mut self, acknowledged: &Acknowledged) {
        self.count += u64::from(!acknowledged.may_also_be_at.is_empty());
        self.peers.extend(&acknowledged.may_also_be_at);
    }

    /// Says so, once for all, with the names of those peers where they can be had.
    async fn tell(&self, client: &Client) {
        if self.count == 0 {
            return;
        }
        let members = tokio::time::timeout(PROBE_TIME, client.members()).await;
        let members = members.ok().and_then(Result::ok).unwrap_or_default();
        let name = |peer: &PeerId| {
            let member = members.iter().find(|member| member.peer == *peer);
            member.map_or_else(|| peer.to_string(), |member| member.name.to_string())
        };
        let peers: Vec<String> = self.peers.iter().map(name).collect();
        note(format!(
            "{} may be in the log of {} too, under other ids: the connection was lost before it answered",
            show_count(self.count, "entry", "entries"),
            peers.join(" or ")
        ));
    }
}

/// One line of a receipt.
#[derive(Serialize)]
struct HolderJson {
    name: Option<String>,
    peer: String,
    store: String,
}

impl HolderJson {
    fn of(holder: &Holder) -> Self {
        let Holder { peer, store, name } = holder;
        Self {
            name: name.as_ref().map(ToString::to_string),
            peer: peer.to_string(),
            store: store.to_string(),
        }
    }
}

/// How long a peer that owes an answer may take to show that it is there.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// The entry that an error says is stored, and held by too few peers.
fn unconfirmed(topic: TopicId, error: &ClientError) -> Option<Acknowledged> {
    match error {
        ClientError::Append(AppendError::Replicas { appended, .. }) => {
            Some(Acknowledged::of(topic, (**appended).clone()))
        }
        _ => None,
    }
}

/// An id as people use it: the peer by its name where it is the one we talk to.
fn short_id(about: &About, topic: &TopicName, id: &EntryId, signed_run: RunId) -> String {
    let peer = if about.peer == id.peer { about.name.to_string() } else { id.peer.to_string() };
    format!("{topic}/{peer}.{}/{}", short_run(id.run, signed_run), id.seq)
}

/// The outcome of the next receipt; `front` keeps it while it is waited for.
async fn next(
    front: &mut Option<Receipt>,
    receipts: &mut mpsc::UnboundedReceiver<Receipt>,
) -> Option<Result<Acknowledged, ClientError>> {
    if front.is_none() {
        *front = Some(receipts.recv().await?);
    }
    let outcome = front.as_mut()?.await;
    *front = None;
    Some(outcome)
}

/// Resolves on the second Ctrl-C: the first one ends the input alone.
async fn impatient() {
    interrupted().await;
    interrupted().await;
}
