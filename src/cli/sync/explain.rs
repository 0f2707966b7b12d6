//! `conveyor sync explain`: why an entry is not at a peer, and who has it.
use crate::base::EntryRef;
use crate::cli::connect::Connection;
use crate::cli::output::Out;
use crate::client::{Explained, Holder, ReadError, Why};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Say why an entry is not at a peer, who has it, and what is in the way
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor sync explain jobs/alpha.01234567/42
  conveyor sync explain jobs/alpha.01234567/42 --connect 10.0.0.3
  conveyor sync explain jobs/alpha.01234567/42 -o json | jq -r .why

`why` is one of here, ahead, hole, trimmed, lost, damaged, forked, set_aside,
unknown, ambiguous, and error.")]
pub struct Explain {
    /// The entry's id, as `append` and `read -o json` print it
    #[arg(value_parser = |text: &str| EntryRef::parse(text))]
    id: EntryRef,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct ExplainedJson {
    id: String,
    why: &'static str,
    words: String,
    writer: Option<String>,
    is_writer_removed: bool,
    /// Whether the peer asked is connected to the one that wrote it, or is it.
    is_writer_connected: bool,
    offered_by: Vec<String>,
    asked_of: Vec<String>,
}

impl Explain {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let (explained, members) = (client.explain(&self.id).await?, client.members().await?);
        let is_writer_connected =
            members.iter().any(|member| Some(member.peer) == explained.writer && member.state.is_there());
        let here = client.about().name.to_string();
        let json = ExplainedJson {
            id: self.id.to_string(),
            why: kind(&explained.why),
            words: words(&explained, &here, is_writer_connected),
            writer: explained.writer.map(|peer| peer.to_string()),
            is_writer_removed: explained.is_writer_removed,
            is_writer_connected,
            offered_by: explained.offered_by.iter().map(called).collect(),
            asked_of: explained.asked_of.iter().map(called).collect(),
        };
        out.show(&json, |json| json.words.clone())
    }
}

fn called(holder: &Holder) -> String {
    holder.name.as_ref().map_or_else(|| holder.peer.short(), ToString::to_string)
}

fn kind(why: &Why) -> &'static str {
    match why {
        Why::Here => "here",
        Why::Ahead { .. } => "ahead",
        Why::Hole => "hole",
        Why::SetAside => "set_aside",
        Why::Error(ReadError::IdTrimmed { .. }) => "trimmed",
        Why::Error(ReadError::IdLost { .. }) => "lost",
        Why::Error(ReadError::Damaged { .. }) => "damaged",
        Why::Error(ReadError::Forked { .. }) => "forked",
        Why::Error(ReadError::IdUnknown { .. } | ReadError::TopicUnknown { .. }) => "unknown",
        Why::Error(ReadError::IdAmbiguous { .. }) => "ambiguous",
        Why::Error(_) => "error",
    }
}

/// What is known, then what is done about it.
fn words(explained: &Explained, here: &str, is_writer_connected: bool) -> String {
    let Explained { why, is_writer_removed, offered_by, asked_of, .. } = explained;
    let what = match why {
        Why::Here => return format!("it is here, at {here}"),
        Why::SetAside => {
            return format!(
                "it is at {here}, and set aside: the peer that wrote it was removed, and this was not counted in; see conveyor \
                 peer set-aside"
            );
        }
        Why::Ahead { until } => format!("it is not at {here}, where its run ends before entry {until}"),
        Why::Hole => format!("it is not at {here}, where later entries of its run are"),
        Why::Error(ReadError::IdUnknown { .. }) => format!("nothing of its run is at {here}"),
        Why::Error(error @ (ReadError::TopicUnknown { .. } | ReadError::Damaged { .. })) => error.to_string(),
        // Who has it is no matter: it is gone, or was not asked for as it should be.
        Why::Error(error) => return error.to_string(),
    };
    let names = |holders: &[Holder]| holders.iter().map(called).collect::<Vec<_>>().join(", ");
    let next = match (offered_by.is_empty(), asked_of.is_empty()) {
        (false, false) => format!("{} has it, and {} was asked for it", names(offered_by), names(asked_of)),
        (false, true) => format!("{} has it; it waits for its turn to be asked for", names(offered_by)),
        (true, _) if *is_writer_removed => {
            "no connected peer has it, and the one that wrote it was removed for good".to_owned()
        }
        (true, _) if !is_writer_connected => {
            "no connected peer has it, and the one that wrote it is away, or not known here".to_owned()
        }
        (true, _) => "no connected peer says it has it, not even the one that wrote it".to_owned(),
    };
    format!("{what}; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_an_entry_is_said_where_it_is_not_here_and_nowhere_else() {
        let said = |why| {
            let (offered_by, asked_of) = (Vec::new(), Vec::new());
            let explained = Explained { why, writer: None, is_writer_removed: false, offered_by, asked_of };
            words(&explained, "alpha", false)
        };
        let (id, nobody) = (String::from("jobs/beta.01234567/4"), "no connected peer has it");
        assert!(said(Why::Hole).contains(nobody));
        assert!(said(Why::Error(ReadError::IdUnknown { id: id.clone() })).contains(nobody));
        let stopped = Why::Error(ReadError::Stopped);
        assert!(!said(stopped).contains(nobody), "that says nothing of who has it");
    }
}
