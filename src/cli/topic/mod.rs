//! `conveyor topic`: what topics there are, how durable they are, what they keep.
mod lost;
mod show;

use crate::base::{Durability, PeerId, TopicName, TopicSettings};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, show_count};
use crate::cli::usage::count;
use crate::client::{Client, Member, MemberState};
use crate::server::config::{parse_bytes, parse_duration};
use crate::wire::outcome::TopicChange;
use anyhow::Result;
use clap::{Args, Subcommand};
use lost::LostRanges;
use show::TopicJson;

/// Create, list, show, set and delete topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Create a topic
    #[command(after_help = "\
Examples:
  conveyor topic create jobs
  conveyor topic create metrics --durability buffered --keep-age 7d
  conveyor topic create audit --keep-bytes '10 GiB'

What is not named is as the peer has it for topics that nobody set (topics.… in
its configuration). A topic that exists is left as it is (exit code 4); `topic
set` changes it.
Unless the peer is set otherwise, a first append makes a topic too.")]
    Create(Change),
    /// List topics
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  conveyor topic list\n  conveyor topic list -o json | jq -r .topic"
    )]
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a topic's settings and logs
    #[command(
        visible_aliases = ["show", "describe"],
        after_help = "Examples:\n  conveyor topic info jobs\n  conveyor topic info jobs -o json | jq .entries"
    )]
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
  conveyor topic set jobs --keep-age none    keep entries whatever their age
  conveyor topic set jobs --keep-count 1000 --create

A topic that does not exist is an error (exit code 3) without --create.")]
    Set {
        /// Make the topic if it does not exist
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        change: Change,
    },
    Lost(LostRanges),
    /// Remove all entries of a topic, and its settings
    ///
    /// What others append meanwhile survives. Removed entries cannot be had back; `conveyor export` takes a copy first.
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  conveyor export old --file old.cvy && conveyor topic delete old"
    )]
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
    /// What an acknowledgement means: fsync survives power loss, buffered a crash of the process, replicas=N the loss of
    /// any N-1 peers with their disks
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
    bound(text, count)
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
    fn is_empty(&self) -> bool {
        let bounds = [self.keep_age, self.keep_bytes, self.keep_count];
        self.durability.is_none() && bounds.iter().all(Option::is_none)
    }

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
                let settings = change.apply(client.status().await?.topic_defaults);
                let create = TopicChange::Create { topic: change.topic.clone(), settings };
                client.change_topic(create).await?;
                show(&client, &change.topic, out).await
            }
            Self::Set { create, change } => set(create, change, out).await,
            Self::Lost(lost) => lost.run(out).await,
            Self::List { connection } => {
                let client = connection.client().await?;
                for topic in client.topics().await? {
                    out.show(&TopicJson::new(&topic), |json| json.line())?;
                }
                Ok(())
            }
            Self::Info { topic, connection } => show(&connection.client().await?, &topic, out).await,
            Self::Delete { topic, connection } => delete(&connection.client().await?, topic, out).await,
        }
    }
}

async fn set(create: bool, change: Change, out: &mut Out) -> Result<()> {
    let topic = &change.topic;
    if change.is_empty() {
        let message = format!(
            "nothing to set is named; give --durability, --keep-age, --keep-bytes or --keep-count (`conveyor topic \
             info {topic}` shows what is set)"
        );
        return Err(failure(Exit::Usage, message));
    }
    let client = change.connection.client().await?;
    let now = match client.topic(topic).await? {
        Some(info) => info.settings,
        None if create => client.status().await?.topic_defaults,
        None => {
            let message =
                format!("topic {topic:?} does not exist here; --create makes it with these settings");
            return Err(failure(Exit::NotFound, message));
        }
    };
    client.change_topic(TopicChange::Set { topic: topic.clone(), settings: change.apply(now) }).await?;
    show(&client, topic, out).await
}

async fn show(client: &Client, topic: &TopicName, out: &mut Out) -> Result<()> {
    let Some(info) = client.topic(topic).await? else {
        return Err(failure(Exit::NotFound, format!("topic {topic:?} does not exist here")));
    };
    out.show(&TopicJson::new(&info), TopicJson::text)
}

async fn delete(client: &Client, topic: TopicName, out: &mut Out) -> Result<()> {
    let (info, members) = (client.topic(&topic).await?, client.members().await?);
    let changed = client.change_topic(TopicChange::Delete { topic: topic.clone() }).await?;
    let deleted = changed.deleted.unwrap_or_default();
    let named = |peer: &PeerId| {
        let log = info.iter().flat_map(|info| &info.logs).find(|log| log.peer == *peer);
        let name = log.and_then(|log| log.name.as_ref());
        let member = || members.iter().find(|member| member.peer == *peer).map(|member| &member.name);
        name.or_else(member).map_or_else(|| peer.short(), ToString::to_string)
    };
    // Each of the others trims its own log, once it hears of this: those that are connected do at once.
    let is_connected = |peer: &&PeerId| {
        let of_peer = |member: &&Member| member.peer == **peer;
        members.iter().filter(of_peer).any(|member| matches!(member.state, MemberState::Connected { .. }))
    };
    let (told, away): (Vec<&PeerId>, Vec<&PeerId>) = deleted.not_asked.iter().partition(is_connected);
    let names = |peers: &[&PeerId]| peers.iter().map(|peer| named(peer)).collect::<Vec<_>>();
    let until: Vec<_> = deleted
        .until
        .iter()
        .map(|(peer, run, seq)| serde_json::json!({ "peer": peer.to_string(), "run": run.to_string(), "next_seq": seq.0 }))
        .collect();
    let not_asked: Vec<String> = deleted.not_asked.iter().map(ToString::to_string).collect();
    let json = serde_json::json!({
        "topic": topic, "deleted": until, "not_asked": not_asked, "told": names(&told), "away": names(&away)
    });
    out.show(&json, |_| {
        let logs = show_count(deleted.until.len() as u64, "log", "logs");
        let mut words = format!("deleted {topic}: {logs}");
        if !told.is_empty() {
            words.push_str(&format!(
                "; {} removes what it wrote as it hears of this",
                names(&told).join(", ")
            ));
        }
        if !away.is_empty() {
            words.push_str(&format!(
                "; {} is away: what it wrote goes once it is back, and what it alone has comes with it (where it was removed: as \
                 its successor hears of this, and never without one)",
                names(&away).join(", ")
            ));
        }
        words
    })
}
