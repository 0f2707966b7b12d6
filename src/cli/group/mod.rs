//! `conveyor group`: consumers that share a topic's entries.
mod lease;
mod next;
mod show;

use crate::base::{GroupName, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::Out;
use crate::cli::when::parse_from;
use crate::client::{GroupSettings, ReadFrom, WhenExhausted};
use crate::server::config::parse_duration;
use anyhow::Result;
use clap::{Args, Subcommand};
use next::{Ack, Extend, Nack, Next};
use show::GroupJson;

/// Let consumers share a topic's entries: each is handed to one of them until it is acknowledged.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make a group
    #[command(after_help = "\
Examples:
  conveyor group create jobs mailers
  conveyor group create jobs audit --from now
  conveyor group create jobs mailers --max-deliveries 5 --dead-to jobs.dead

A group that exists is left as it is (exit code 4); `group set` changes it.")]
    Create {
        #[command(flatten)]
        of: Of,
        /// Where it begins: start, now, an id, a time, a duration back, a cursor
        #[arg(long, default_value = "start", value_name = "WHERE", value_parser = parse_from)]
        from: ReadFrom,
        #[command(flatten)]
        change: Change,
    },
    /// List the groups of a topic
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  conveyor group list jobs\n  conveyor group list jobs -o json | jq -r .group"
    )]
    List {
        /// The topic
        #[arg(value_parser = |text: &str| TopicName::new(text))]
        topic: TopicName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show how a group is doing
    #[command(
        visible_aliases = ["show", "describe"],
        after_help = "Example:\n  conveyor group info jobs mailers -o json | jq .leased"
    )]
    Info {
        #[command(flatten)]
        of: Of,
    },
    /// Change how a group hands out; what is not named stays as it is
    #[command(after_help = "\
Examples:
  conveyor group set jobs mailers --lease 5m
  conveyor group set jobs mailers --pause      nothing more is handed out
  conveyor group set jobs mailers --resume")]
    Set {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: Change,
    },
    Next(Next),
    Ack(Ack),
    Nack(Nack),
    Extend(Extend),
    /// Hand out again from another place on, whatever was acknowledged behind it
    #[command(after_help = "\
Examples:
  conveyor group rewind jobs mailers --to start
  conveyor group rewind jobs mailers --to 2026-01-31T12:00:00Z
  conveyor group rewind jobs mailers --to now    skip all that is there

Leases that were given before count no more, but what was done under them may
be acknowledged still.")]
    Rewind {
        #[command(flatten)]
        of: Of,
        /// Where: start, now, an id, a time, a duration back, a cursor
        #[arg(long, value_name = "WHERE", value_parser = parse_from)]
        to: ReadFrom,
    },
    /// Forget a group; the topic's entries stay
    #[command(visible_alias = "rm", after_help = "Example:\n  conveyor group delete jobs mailers")]
    Delete {
        #[command(flatten)]
        of: Of,
    },
}

/// A group of a topic.
#[derive(Debug, Args)]
pub struct Of {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    pub topic: TopicName,
    /// The group: 1 to 64 letters, digits, "-", "_" and "."
    #[arg(value_parser = |text: &str| GroupName::new(text))]
    pub group: GroupName,
    #[command(flatten)]
    connection: Connection,
}

impl Of {
    /// The group, through a peer.
    pub async fn open(self) -> Result<crate::client::Group> {
        Ok(self.connection.client().await?.group(&self.topic, self.group))
    }
}

/// How a group hands out.
#[derive(Debug, Args)]
pub struct Change {
    /// How long an entry is leased where nobody says, up to 12h (30s at first)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lease: Option<u64>,
    /// Hand an entry out so often at most; 0: without end (as it is at first)
    #[arg(long, value_name = "COUNT")]
    max_deliveries: Option<u32>,
    /// Then append it to this topic
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::new(text), conflicts_with_all = ["dead_drop", "dead_keep"])]
    dead_to: Option<TopicName>,
    /// Then drop it, and count it
    #[arg(long, conflicts_with = "dead_keep")]
    dead_drop: bool,
    /// Then keep it aside: `group info` lists it (as it is at first)
    #[arg(long)]
    dead_keep: bool,
    /// Wait so long before an entry that came back is handed out again
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    retry_delay: Option<u64>,
    /// Append what expired to this topic, or none
    #[arg(long, value_name = "TOPIC", value_parser = topic_or_none)]
    expire_to: Option<Place>,
    /// Hand nothing out until it is resumed
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Hand out again
    #[arg(long)]
    resume: bool,
}

/// A topic, or none.
#[derive(Debug, Clone)]
struct Place(Option<TopicName>);

fn topic_or_none(text: &str) -> Result<Place, String> {
    match text {
        "none" => Ok(Place(None)),
        text => TopicName::new(text).map(|name| Place(Some(name))).map_err(|error| error.to_string()),
    }
}

impl Change {
    fn is_empty(&self) -> bool {
        let is_flagged = self.dead_drop || self.dead_keep || self.pause || self.resume;
        let is_given = self.lease.is_some() || self.max_deliveries.is_some() || self.dead_to.is_some();
        !is_flagged && !is_given && self.retry_delay.is_none() && self.expire_to.is_none()
    }

    /// `settings` with what was named changed.
    fn apply(&self, mut settings: GroupSettings) -> GroupSettings {
        settings.lease_ms = self.lease.unwrap_or(settings.lease_ms);
        settings.max_deliveries = self.max_deliveries.unwrap_or(settings.max_deliveries);
        settings.retry_delay_ms = self.retry_delay.unwrap_or(settings.retry_delay_ms);
        match (&self.dead_to, self.dead_drop, self.dead_keep) {
            (Some(topic), ..) => settings.when_exhausted = WhenExhausted::Topic(topic.clone()),
            (None, true, _) => settings.when_exhausted = WhenExhausted::Drop,
            (None, _, true) => settings.when_exhausted = WhenExhausted::Keep,
            (None, false, false) => {}
        }
        if let Some(Place(topic)) = &self.expire_to {
            settings.expire_to = topic.clone();
        }
        settings.is_paused = (settings.is_paused || self.pause) && !self.resume;
        settings
    }
}

impl Group {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        match self {
            Self::Create { of, from, change } => {
                let group = of.open().await?;
                if !group.create(from, change.apply(GroupSettings::default())).await? {
                    let message = format!("topic {:?} has a group {:?} already", group.topic(), group.name());
                    return Err(failure(Exit::Refused, message));
                }
                show(&group, out).await?;
            }
            Self::Set { of, change } => {
                if change.is_empty() {
                    let message = "nothing to set is named; `conveyor group set --help` shows what can be";
                    return Err(failure(Exit::Usage, message));
                }
                let group = of.open().await?;
                let now = group.info().await?.settings;
                group.set(change.apply(now)).await?;
                show(&group, out).await?;
            }
            Self::List { topic, connection } => {
                for info in connection.client().await?.groups(&topic).await? {
                    out.show(&GroupJson::new(&topic, &info), GroupJson::line)?;
                }
            }
            Self::Info { of } => show(&of.open().await?, out).await?,
            Self::Next(next) => return next.run(out).await,
            Self::Ack(ack) => return ack.run(out).await,
            Self::Nack(nack) => return nack.run(out).await,
            Self::Extend(extend) => return extend.run(out).await,
            Self::Rewind { of, to } => {
                let group = of.open().await?;
                group.rewind(to).await?;
                show(&group, out).await?;
            }
            Self::Delete { of } => {
                let group = of.open().await?;
                group.delete().await?;
                let json =
                    serde_json::json!({ "topic": group.topic(), "group": group.name(), "deleted": true });
                out.show(&json, |_| format!("deleted group {} of {}", group.name(), group.topic()))?;
            }
        }
        Ok(Exit::Ok)
    }
}

async fn show(group: &crate::client::Group, out: &mut Out) -> Result<()> {
    let info = group.info().await?;
    out.show(&GroupJson::new(group.topic(), &info), GroupJson::text)
}
