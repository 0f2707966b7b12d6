//! `conveyor topic`: what topics there are, how durable they are, what they keep.
use crate::base::{Durability, Retention, TopicName, TopicSettings};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::lost::LostRanges;
use crate::cli::output::{Out, show_bytes, show_ms};
use crate::cli::when::show_time;
use crate::client::Client;
use crate::server::config::{parse_bytes, parse_duration};
use crate::wire::outcome::{LogInfo, TopicChange, TopicInfo};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

/// Create, list, show, set and delete topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Create a topic
    #[command(after_help = "\
Examples:
  conveyor topic create jobs
  conveyor topic create metrics --durability buffered --keep-age 7d --keep-bytes '10 GiB'")]
    Create(Change),
    /// List topics
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a topic's settings and logs
    Info {
        /// The topic
        #[arg(value_parser = |text: &str| TopicName::system(text))]
        topic: TopicName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change a topic's settings; what is not named stays as it is
    #[command(after_help = "\
Examples:
  conveyor topic set jobs --keep-age 30d
  conveyor topic set jobs --keep-age none       keep entries whatever their age")]
    Set(Change),
    Lost(LostRanges),
    /// Remove all entries of a topic, and its settings
    ///
    /// What others append meanwhile survives. Removed entries cannot be had back.
    Delete {
        /// The topic
        #[arg(value_parser = |text: &str| TopicName::new(text))]
        topic: TopicName,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A topic and settings for it.
#[derive(Debug, Args)]
pub struct Change {
    /// The topic: 1 to 200 bytes, slashes allowed
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// What an acknowledgement means: fsync survives power loss, buffered a crash of the process
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,
    /// Remove entries older than this: 7d, 12h, or none
    #[arg(long, value_name = "DURATION", value_parser = bound_ms)]
    keep_age: Option<Bound>,
    /// Remove the oldest entries while a log is larger: 10 GiB, or none
    #[arg(long, value_name = "SIZE", value_parser = bound_bytes)]
    keep_bytes: Option<Bound>,
    /// Keep only this many newest entries of each log, or none
    #[arg(long, value_name = "COUNT", value_parser = bound_count)]
    keep_count: Option<Bound>,
    #[command(flatten)]
    connection: Connection,
}

/// A bound that is given, or given as `none`.
#[derive(Debug, Clone, Copy)]
struct Bound(Option<u64>);

fn bound_ms(text: &str) -> Result<Bound, String> {
    bound(text, |text| parse_duration(text).map_err(|error| error.to_string()))
}

fn bound_bytes(text: &str) -> Result<Bound, String> {
    bound(text, |text| parse_bytes(text).map_err(|error| error.to_string()))
}

fn bound_count(text: &str) -> Result<Bound, String> {
    bound(text, |text| text.parse().map_err(|_| "give a whole number".to_owned()))
}

fn bound(text: &str, parse: impl FnOnce(&str) -> Result<u64, String>) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        text => match parse(text)? {
            0 => Err("give more than 0, or none for no bound".to_owned()),
            value => Ok(Bound(Some(value))),
        },
    }
}

impl Change {
    /// `settings` with what was named changed.
    fn apply(&self, mut settings: TopicSettings) -> TopicSettings {
        let put = |slot: &mut Option<u64>, bound: Option<Bound>| {
            if let Some(Bound(value)) = bound {
                *slot = value;
            }
        };
        settings.durability = self.durability.unwrap_or(settings.durability);
        put(&mut settings.retention.age_ms, self.keep_age);
        put(&mut settings.retention.bytes, self.keep_bytes);
        put(&mut settings.retention.count, self.keep_count);
        settings
    }
}

impl Topic {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(change) => {
                let client = change.connection.client().await?;
                let settings = change.apply(TopicSettings::default());
                let create = TopicChange::Create { topic: change.topic.clone(), settings };
                client.change_topic(create).await?;
                show(&client, &change.topic, out).await
            }
            Self::Set(change) => {
                let client = change.connection.client().await?;
                let now = client.topic(&change.topic).await?.map(|info| info.settings).unwrap_or_default();
                let set = TopicChange::Set { topic: change.topic.clone(), settings: change.apply(now) };
                client.change_topic(set).await?;
                show(&client, &change.topic, out).await
            }
            Self::Lost(lost) => lost.run(out).await,
            Self::List { connection } => {
                let client = connection.client().await?;
                for topic in client.topics().await? {
                    out.show(&TopicJson::new(&topic), |json| json.line())?;
                }
                client.close().await;
                Ok(())
            }
            Self::Info { topic, connection } => show(&connection.client().await?, &topic, out).await,
            Self::Delete { topic, connection } => delete(&connection.client().await?, topic, out).await,
        }
    }
}

async fn show(client: &Client, topic: &TopicName, out: &mut Out) -> Result<()> {
    let Some(info) = client.topic(topic).await? else {
        return Err(failure(Exit::NotFound, format!("topic {topic:?} does not exist here")));
    };
    out.show(&TopicJson::new(&info), TopicJson::text)
}

async fn delete(client: &Client, topic: TopicName, out: &mut Out) -> Result<()> {
    let changed = client.change_topic(TopicChange::Delete { topic: topic.clone() }).await?;
    let deleted = changed.deleted.unwrap_or_default();
    let until: Vec<_> = deleted
        .until
        .iter()
        .map(|(peer, run, seq)| serde_json::json!({ "peer": peer.to_string(), "run": run.to_string(), "until": seq.0 }))
        .collect();
    let not_asked: Vec<String> = deleted.not_asked.iter().map(ToString::to_string).collect();
    let json = serde_json::json!({ "topic": topic, "deleted": until, "not_asked": not_asked });
    out.show(&json, |_| {
        let logs = deleted.until.len();
        let missed = if not_asked.is_empty() {
            String::new()
        } else {
            format!("; could not ask {}", not_asked.join(", "))
        };
        format!("deleted {topic}: {logs} log(s){missed}")
    })
}

#[derive(Serialize)]
struct TopicJson {
    topic: String,
    durability: String,
    keep_age_ms: Option<u64>,
    keep_bytes: Option<u64>,
    keep_count: Option<u64>,
    is_configured: bool,
    entries: u64,
    stored_bytes: u64,
    logs: Vec<LogJson>,
}

#[derive(Serialize)]
struct LogJson {
    peer: String,
    name: Option<String>,
    run: String,
    runs: u32,
    start: u64,
    until: u64,
    stored_bytes: u64,
    last_time: Option<String>,
    damaged: Vec<DamagedJson>,
    lost: Vec<DamagedJson>,
}

#[derive(Serialize)]
struct DamagedJson {
    run: String,
    from: u64,
    until: u64,
}

impl LogJson {
    fn new(log: &LogInfo) -> Self {
        let damaged = |(run, from, until): &(crate::base::RunId, crate::base::Seq, crate::base::Seq)| {
            DamagedJson { run: run.to_string(), from: from.0, until: until.0 }
        };
        Self {
            peer: log.peer.to_string(),
            name: log.name.as_ref().map(ToString::to_string),
            run: log.run.to_string(),
            runs: log.run_count,
            start: log.start.0,
            until: log.until.0,
            stored_bytes: log.stored_bytes,
            last_time: (log.last_time.ms() > 0).then(|| show_time(log.last_time.ms())),
            damaged: log.damaged.iter().map(damaged).collect(),
            lost: log.lost.iter().map(damaged).collect(),
        }
    }
}

impl TopicJson {
    fn new(info: &TopicInfo) -> Self {
        let Retention { age_ms, bytes, count } = info.settings.retention;
        Self {
            topic: info.name.to_string(),
            durability: info.settings.durability.to_string(),
            keep_age_ms: age_ms,
            keep_bytes: bytes,
            keep_count: count,
            is_configured: info.is_configured,
            entries: info.logs.iter().map(|log| log.until.since(log.start)).sum(),
            stored_bytes: info.logs.iter().map(|log| log.stored_bytes).sum(),
            logs: info.logs.iter().map(LogJson::new).collect(),
        }
    }

    fn line(&self) -> String {
        format!("{}\t{} entries\t{}", self.topic, self.entries, show_bytes(self.stored_bytes))
    }

    fn text(&self) -> String {
        let keeps: Vec<String> = [
            self.keep_age_ms.map(|ms| format!("the last {}", show_ms(ms))),
            self.keep_bytes.map(|bytes| format!("{} a log", show_bytes(bytes))),
            self.keep_count.map(|count| format!("{count} entries a log")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let keeps = if keeps.is_empty() { "everything".to_owned() } else { keeps.join(", ") };
        let origin = if self.is_configured { "" } else { " (defaults)" };
        let mut text = format!(
            "topic       {}\ndurability  {}{origin}\nkeeps       {keeps}\nheld        {} entries, {}",
            self.topic,
            self.durability,
            self.entries,
            show_bytes(self.stored_bytes)
        );
        for log in &self.logs {
            let name = log.name.as_deref().unwrap_or(&log.peer);
            let last = log.last_time.as_deref().unwrap_or("-");
            text.push_str(&format!(
                "\nlog         {name}.{} entries {} to {}, {}, newest {last}",
                &log.run[..8],
                log.start,
                log.until,
                show_bytes(log.stored_bytes)
            ));
            for d in &log.damaged {
                text.push_str(&format!(
                    "\ndamaged     {name}.{} entries {} to {}",
                    &d.run[..8],
                    d.from,
                    d.until
                ));
            }
        }
        text
    }
}
