//! `conveyor read` and `conveyor tail`: entries out of a topic, from any point, to the end or for ever.
use crate::base::{Cursor, TopicName};
use crate::cli::connect::Connection;
use crate::cli::cursor_file::{read_cursor, write_cursor};
use crate::cli::entry_json::RecordJson;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::output::{Out, note};
use crate::cli::patience::{LOOK_EVERY, Patience, Quiet, Trouble};
use crate::cli::told::{self, tell_behind, tell_blocked, tell_gap};
use crate::cli::usage::count;
use crate::cli::when::parse_from;
use crate::client::{Client, Item, Reader, Record};
use crate::wire::outcome::{BlockedReason, ReadFrom};
use anyhow::Result;
use clap::{Args, ValueHint};
use futures_core::Stream as _;
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

/// Read a topic up to the end of what is held.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor read greetings                       everything, a payload a line
  conveyor read greetings --from 1h -o json     the last hour, with ids
  conveyor read jobs --from 2026-01-31 -n 10    ten from that midnight on
  conveyor read jobs --last 10                  the newest ten
  conveyor read jobs --from jobs/alpha.01234567/42        from an entry on
  conveyor read jobs --cursor-file jobs.cursor  what came since the last time
  conveyor read images -k cats -n 1 --raw > cat.png

Times are UTC unless they name a zone. A duration counts back from now.")]
pub struct Read {
    /// Where to begin: start, now, an id, a time, 10m for ten minutes ago, or a cursor [default: start, or the cursor in
    /// the file]
    #[arg(long, visible_alias = "since", value_name = "WHERE", value_parser = parse_from, allow_hyphen_values = true)]
    from: Option<ReadFrom>,
    /// Begin with the last so many entries
    #[arg(long, value_name = "COUNT", value_parser = count, conflicts_with_all = ["from", "with_key"])]
    last: Option<u64>,
    /// Stop after this many entries, counted from where it begins
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = count)]
    limit: Option<u64>,
    /// Go on with what comes, until Ctrl-C, as `tail` does
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    options: Options,
}

/// Follow a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor tail greetings                   what comes from now on, until Ctrl-C
  conveyor tail greetings -n 10             the last ten, then on
  conveyor tail jobs --from 10m -o json     ten minutes back, then on
  conveyor tail jobs --cursor-file worker.cursor --from start
                            everything once, also over restarts of this command

Waits for a topic that does not exist yet. When the peer goes away, goes on
where it was once a peer answers again, and gives up after a minute.")]
pub struct Tail {
    /// Where to begin: start, now, an id, a time, 10m for ten minutes ago, or a cursor [default: now, or the cursor in
    /// the file]
    #[arg(long, visible_alias = "since", value_name = "WHERE", value_parser = parse_from, allow_hyphen_values = true)]
    from: Option<ReadFrom>,
    /// Begin with the last so many entries
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = count, conflicts_with_all = ["from", "with_key"])]
    last: Option<u64>,
    /// Stop after this many entries, counted from where it begins
    #[arg(long, value_name = "COUNT", value_parser = count)]
    limit: Option<u64>,
    /// Go on with what comes. It always does; for hands that are used to `tail -f`
    #[arg(short, long, hide = true)]
    follow: bool,
    #[command(flatten)]
    options: Options,
}

/// What both take.
#[derive(Debug, Args)]
struct Options {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::system(text))]
    topic: TopicName,
    /// Only entries with this key
    #[arg(short = 'k', long, value_name = "KEY")]
    with_key: Option<String>,
    /// Print payloads as they are, without a line end behind each
    #[arg(long)]
    raw: bool,
    /// Report damaged entries as gaps and go on behind them
    #[arg(long)]
    skip_damaged: bool,
    /// Begin where this file says, and keep the position in it; wins over --from and --last once it exists
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cursor_file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

impl Read {
    /// Prints entries until the end, or for ever.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let from = begin(self.from, self.last, ReadFrom::Start);
        self.options.run(from, self.limit, self.follow, out).await
    }
}

impl Tail {
    /// Prints entries for ever.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let from = begin(self.from, self.last, ReadFrom::Now);
        self.options.run(from, self.limit, true, out).await
    }
}

fn begin(from: Option<ReadFrom>, last: Option<u64>, otherwise: ReadFrom) -> ReadFrom {
    from.or(last.map(|count| ReadFrom::Last { count })).unwrap_or(otherwise)
}

/// Entries printed between two writes of the cursor file, at most.
const CURSOR_STRIDE: u64 = 10_000;

impl Options {
    async fn run(self, from: ReadFrom, limit: Option<u64>, is_follow: bool, out: &mut Out) -> Result<()> {
        let kept = self.cursor_file.as_deref().map(read_cursor).transpose()?.flatten();
        let from = kept.map_or(from, ReadFrom::Cursor);
        let is_from_cursor = matches!(from, ReadFrom::Cursor(_));
        self.check(&from)?;
        let client = self.connection.client().await?;
        let is_missing = is_follow && self.tell_missing(&client).await;
        let mut quiet = Quiet::new(Instant::now(), !is_follow || is_missing || from == ReadFrom::Now);
        let (from, mut passed_over) = self.settle(&client, from, is_missing).await?;
        let mut reader = self.reader(&client, from, is_follow);
        let stop = interrupted();
        tokio::pin!(stop);
        let (mut look, mut patience) = (tokio::time::interval(LOOK_EVERY), Patience::default());
        let (mut left, mut since_kept) = (limit.unwrap_or(u64::MAX), 0);
        let mut stood_before = BTreeSet::new();
        while left > 0 {
            let item = tokio::select! {
                biased;
                _ = &mut stop => {
                    self.keep(&reader, out)?;
                    return told::stopped(is_follow);
                }
                item = next(&mut reader, out) => item?,
                _ = look.tick() => {
                    patience.look(Instant::now(), client.trouble().map(Trouble::Away)).into_iter().for_each(note);
                    quiet.look(Instant::now(), reader.is_caught_up()).into_iter().for_each(note);
                    continue;
                }
            };
            quiet.end();
            match item {
                None => break,
                Some(Item::Entry(_)) if passed_over > 0 => passed_over -= 1,
                Some(Item::Entry(record)) => {
                    self.print(&record, out)?;
                    (left, since_kept) = (left - 1, since_kept + 1);
                }
                Some(Item::Gap(gap)) => tell_gap(&gap, out)?,
                Some(Item::Blocked(blocked)) => {
                    stood_before.insert(blocked.reason == BlockedReason::Ahead);
                    tell_blocked(&blocked, out)?;
                }
            }
            if since_kept >= CURSOR_STRIDE {
                since_kept = 0;
                self.keep(&reader, out)?;
            }
        }
        self.keep(&reader, out)?;
        if is_follow {
            return Ok(());
        }
        if is_from_cursor && left > 0 && stood_before.is_empty() {
            stood_before.extend(tell_behind(&client, &self.topic, reader.cursor()).await?.then_some(true));
        }
        told::ended(&stood_before)
    }

    /// Where a read begins, and how many entries are to be passed over from there.
    async fn settle(&self, client: &Client, from: ReadFrom, is_missing: bool) -> Result<(ReadFrom, u64)> {
        match from {
            // Nothing is there: all that comes is new.
            ReadFrom::Last { .. } if is_missing => Ok((ReadFrom::Start, 0)),
            ReadFrom::Last { count } => self.last(client, count).await,
            from => Ok((from, 0)),
        }
    }

    fn reader(&self, client: &Client, from: ReadFrom, is_follow: bool) -> Reader {
        let read = client.read(&self.topic).from(from).follow(is_follow).skip_damaged(self.skip_damaged);
        match &self.with_key {
            Some(key) => read.key(key.clone().into_bytes()).stream(),
            None => read.stream(),
        }
    }

    fn print(&self, record: &Record, out: &mut Out) -> Result<()> {
        match out.is_json() {
            true => out.json(&RecordJson::new(record)),
            false if self.raw => out.bytes(&record.entry.payload),
            false => out.line(&record.entry.payload),
        }
    }

    /// An id names its topic, which must be the one that is read.
    fn check(&self, from: &ReadFrom) -> Result<()> {
        let ReadFrom::Id(id) = from else { return Ok(()) };
        if id.topic == self.topic {
            return Ok(());
        }
        let (other, topic) = (&id.topic, &self.topic);
        let message = format!(
            "--from names an entry of topic {other:?}, and {topic:?} is what is read: read {other:?}, or give a time"
        );
        Err(failure(Exit::Usage, message))
    }

    /// Where to begin for the last `count` entries of all logs together, and how many to pass over from there: the peer
    /// goes back so many in each log.
    async fn last(&self, client: &Client, count: u64) -> Result<(ReadFrom, u64)> {
        let read = || client.read(&self.topic).skip_damaged(self.skip_damaged);
        let from = read().from(ReadFrom::Last { count }).limit(0).page().await?.cursor;
        let mut reader = read().from(ReadFrom::Cursor(from.clone())).stream();
        let mut newest = Newest::new(count, from);
        while let Some(item) = reader.next().await {
            if matches!(item?, Item::Entry(_)) {
                newest.pass(|| reader.cursor().cloned());
            }
        }
        let (from, passed_over) = newest.begin();
        Ok((ReadFrom::Cursor(from), passed_over))
    }

    /// Says that a topic is waited for; true when it is. Whatever else may be wrong the read itself finds out.
    async fn tell_missing(&self, client: &Client) -> bool {
        let is_missing = matches!(client.topic(&self.topic).await, Ok(None));
        if is_missing {
            note(format!("topic {:?} does not exist yet; waiting for its first entry", self.topic));
        }
        is_missing
    }

    /// Keeps the position, once everything before it was handed to whoever reads us.
    fn keep(&self, reader: &Reader, out: &mut Out) -> Result<()> {
        out.flush()?;
        match (&self.cursor_file, reader.cursor()) {
            (Some(path), Some(cursor)) => write_cursor(path, cursor),
            _ => Ok(()),
        }
    }
}

/// Cursors noted at most while entries are counted, give or take one.
const NOTED_MAX: u64 = 1_000;

/// Finds the cursor before the last so many entries of a read, and not only their count: what is trimmed before they are
/// read must take none of those that are left.
struct Newest {
    count: u64,
    seen: u64,
    /// Cursors, and how many entries were seen before each: one at least before the last `count`.
    noted: VecDeque<(u64, Cursor)>,
}

impl Newest {
    fn new(count: u64, from: Cursor) -> Self {
        Self { count, seen: 0, noted: VecDeque::from([(0, from)]) }
    }

    /// Takes note of an entry; `cursor` is the one behind it.
    fn pass(&mut self, cursor: impl FnOnce() -> Option<Cursor>) {
        self.seen += 1;
        if self.seen.is_multiple_of((self.count / NOTED_MAX).max(1)) {
            self.noted.extend(cursor().map(|cursor| (self.seen, cursor)));
        }
        while self.noted.get(1).is_some_and(|(before, _)| before + self.count <= self.seen) {
            self.noted.pop_front();
        }
    }

    /// Where to begin, and how many entries to pass over from there: none, unless very many are wanted.
    fn begin(mut self) -> (Cursor, u64) {
        let (before, cursor) = self.noted.pop_front().expect("one stays always");
        (cursor, self.seen.saturating_sub(self.count + before))
    }
}

/// The next item. Before it waits, what was printed goes out.
async fn next(reader: &mut Reader, out: &mut Out) -> Result<Option<Item>> {
    let mut is_flushed = false;
    poll_fn(|context| match Pin::new(&mut *reader).poll_next(context) {
        Poll::Ready(item) => Poll::Ready(item.transpose().map_err(Into::into)),
        Poll::Pending if is_flushed => Poll::Pending,
        Poll::Pending => {
            is_flushed = true;
            match out.flush() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, TopicId};

    #[test]
    fn the_last_entries_are_begun_with_where_they_lie() {
        let at = |entry: u64| Cursor {
            floor: crate::base::Timestamp(entry),
            ..Cursor::start(ClusterId([1; 16]), TopicId([2; 16]))
        };
        for (held, count) in [(0, 3), (2, 3), (3, 3), (10, 3), (10, 0), (9_999, 1_000), (9_999, 4_500)] {
            let mut newest = Newest::new(count, at(0));
            (1..=held).for_each(|entry| newest.pass(|| Some(at(entry))));
            assert!(newest.noted.len() as u64 <= NOTED_MAX + 200, "{} are noted", newest.noted.len());
            let (cursor, passed_over) = newest.begin();
            assert_eq!(cursor.floor.0 + passed_over, held.saturating_sub(count), "{count} of {held}");
            assert!(passed_over < (count / NOTED_MAX).max(1));
        }
    }
}
