//! `conveyor peer remove`: asks all holders how far they have a peer's logs, and signs that nothing beyond that counts.
//!
//! ```text
//! members ──> each that can be reached: what do you hold of it? ──> the most of each run ──> signed here ──> one peer
//!                                                                  each of them: have you heard of it? <── all others
//! ```
use crate::base::removal::RUN_ENDS_MAX;
use crate::base::{PeerId, Removal, RunEnds, Seq, Signed as _, SignedRemoval, Timestamp, TopicId, TopicName};
use crate::cli::connect::{Connection, is_still, within};
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, note, show_count};
use crate::cli::peer::who::{FORGOTTEN, Known};
use crate::cli::usage::duration;
use crate::cli::when::unix_ms;
use crate::client::{Client, HeldOf, Member, MemberState};
use crate::identity::Signer as _;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Remove a peer from the cluster for good
///
/// For a peer whose disk or key is lost, or that is not wanted any more. What it wrote stays, as far as those have it who can
/// be asked now; what anybody has beyond that is set aside. Nobody speaks to it any more, whatever its certificate says. It
/// cannot be undone: the host comes back as a peer with another certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor peer remove delta --dry-run          shows what would be done
  conveyor peer remove delta --successor alpha  alpha trims its logs then
  conveyor peer remove 5be1c99d27f0a310         by store, where names repeat

Stop the peer first, if it runs: it waits until others have what it took. Then
all peers should be up: what only one that is away has of it is set aside there
(`conveyor peer set-aside`). On a terminal it asks before it does it. The
certificate must carry the right admin, for all topics.")]
pub struct Remove {
    /// Its name, its store as `cluster members -o json` prints it, or its key
    #[arg(value_name = "PEER")]
    peer: String,
    /// Who applies retention and deletions to what it wrote, from now on
    #[arg(long, value_name = "PEER")]
    successor: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How long to wait for peers that do not answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    connection: Connection,
}

/// A peer that was asked what it holds, or why it was not.
struct Holder {
    name: String,
    asked: Result<(Client, HeldOf), String>,
}

#[derive(Serialize)]
struct RemovedJson {
    peer: String,
    name: String,
    successor: Option<String>,
    is_done: bool,
    /// The most that anybody has who was asked.
    left: Vec<LeftJson>,
    asked: Vec<String>,
    not_asked: Vec<NotAskedJson>,
    /// Who was asked, and has not said yet that it knows.
    not_told: Vec<String>,
    /// Entries beyond what is left, at those who were asked.
    set_aside: u64,
}

#[derive(Serialize)]
struct LeftJson {
    topic: Option<TopicName>,
    runs: usize,
    next_seq: u64,
}

#[derive(Serialize)]
struct NotAskedJson {
    name: String,
    reason: String,
}

impl Remove {
    /// Asks all, shows what is to be done, does it, and waits until all who were asked know of it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let known = within(self.wait, Known::ask(&client)).await?;
        let peer = known.find(&self.peer)?;
        let successor = self.successor.as_ref().map(|given| known.find(given)).transpose()?;
        check(&client, &known, peer, successor)?;
        // Whoever may not do it is told so before anybody else is asked.
        within(self.wait, client.held_of(peer)).await?;
        let holders = self.ask_all(&client, &known, peer).await;
        if holders.iter().all(|holder| holder.asked.is_err()) {
            let why = holders.iter().find_map(|holder| holder.asked.as_ref().err());
            return Err(failure(
                Exit::Unreachable,
                format!("no peer could be asked: {}", why.cloned().unwrap_or_default()),
            ));
        }
        let ends = together(&holders);
        if ends.len() > RUN_ENDS_MAX {
            let message = format!("it wrote {} runs, and a removal names {RUN_ENDS_MAX} at most", ends.len());
            return Err(failure(Exit::Refused, message));
        }
        let mut told = Self::plan(&client, &known, peer, successor, &holders, &ends);
        if self.dry_run {
            return out.show(&told, |told| format!("{}\nnothing was done", told.words()));
        }
        self.confirm(&told, out).await?;
        let signed = self.sign(&client, peer, successor, ends)?;
        client.remove_peer(&signed).await?;
        told.is_done = true;
        (told.not_told, told.set_aside) = self.until_known(&holders, peer).await;
        out.show(&told, RemovedJson::words)
    }

    /// What each peer holds, of those that can be reached.
    async fn ask_all(&self, client: &Client, known: &Known, peer: PeerId) -> Vec<Holder> {
        let others = known.present().filter(|member| member.peer != peer);
        let mut asking = Vec::new();
        for member in others.cloned() {
            let (connection, client, wait) = (self.connection.clone(), client.clone(), self.wait);
            asking.push(tokio::spawn(async move {
                let asked = ask(&connection, &client, &member, peer, wait).await;
                Holder { name: member.name.to_string(), asked: asked.map_err(|error| error.to_string()) }
            }));
        }
        let mut holders = Vec::new();
        for asked in asking {
            holders.extend(asked.await.ok());
        }
        // Who wrote something and was not heard of for long may hold something too.
        for (gone, _) in
            known.forgotten(client, self.wait).await.into_iter().filter(|(gone, _)| *gone != peer)
        {
            let asked = Err(FORGOTTEN.to_owned());
            holders.push(Holder { name: known.called(&gone), asked });
        }
        holders
    }

    fn plan(
        client: &Client,
        known: &Known,
        peer: PeerId,
        successor: Option<PeerId>,
        holders: &[Holder],
        ends: &RunEnds,
    ) -> RemovedJson {
        let cluster = client.about().cluster;
        let names = known.topics.iter().cloned().chain([TopicName::catalog()]);
        let names: BTreeMap<TopicId, TopicName> =
            names.map(|name| (TopicId::of(cluster, name.as_str()), name)).collect();
        let mut left: BTreeMap<TopicId, (usize, Seq)> = BTreeMap::new();
        for ((topic, _), end) in ends {
            let (runs, next) = left.entry(*topic).or_insert((0, Seq::FIRST));
            (*runs, *next) = (*runs + 1, (*next).max(*end));
        }
        let of_topic = |(topic, (runs, next)): (TopicId, (usize, Seq))| LeftJson {
            topic: names.get(&topic).cloned(),
            runs,
            next_seq: next.0,
        };
        let is_up = |member: &&Member| member.peer == peer && !matches!(member.state, MemberState::Dead);
        if known.members.iter().any(|member| is_up(&member)) {
            note(format!(
                "{} runs still: what it takes from now on does not count; stop it first",
                known.called(&peer)
            ));
        }
        let not_asked = |holder: &Holder| {
            let reason = holder.asked.as_ref().err()?.clone();
            Some(NotAskedJson { name: holder.name.clone(), reason })
        };
        RemovedJson {
            peer: peer.to_string(),
            name: known.called(&peer),
            successor: successor.map(|successor| known.called(&successor)),
            is_done: false,
            left: left.into_iter().map(of_topic).collect(),
            asked: holders
                .iter()
                .filter(|holder| holder.asked.is_ok())
                .map(|holder| holder.name.clone())
                .collect(),
            not_asked: holders.iter().filter_map(not_asked).collect(),
            not_told: vec![],
            set_aside: 0,
        }
    }

    /// On a terminal somebody has to say so.
    async fn confirm(&self, told: &RemovedJson, out: &Out) -> Result<()> {
        if self.yes || out.is_json() || !std::io::stdin().is_terminal() {
            return Ok(());
        }
        note(told.words());
        note(format!("this cannot be undone; type {} to do it", told.name));
        // On a thread of its own: whoever waits for a line hears no signal, and this one must hear Ctrl-C.
        let (to, line) = oneshot::channel();
        std::thread::spawn(move || {
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer);
            // Nobody waits any more where it was interrupted.
            let _ = to.send(read.map(|_| answer));
        });
        match line.await??.trim() == told.name {
            true => Ok(()),
            false => Err(failure(Exit::Refused, "nothing was done")),
        }
    }

    fn sign(
        &self,
        client: &Client,
        peer: PeerId,
        successor: Option<PeerId>,
        ends: RunEnds,
    ) -> Result<SignedRemoval> {
        let (cluster, credentials) = (client.about().cluster, self.connection.credentials()?);
        let (time, signer) = (Timestamp::from_ms(unix_ms()), credentials.certificate().key);
        let removal = Removal { cluster, peer, successor, time, signer, ends };
        let signature = credentials.signer().sign(&removal.message());
        Ok(SignedRemoval { removal, signature, certificate: credentials.chain()[0].to_vec().into() })
    }

    /// Waits until all who were asked know of it: those who do not yet, and how much the others have set aside.
    async fn until_known(&self, holders: &[Holder], peer: PeerId) -> (Vec<String>, u64) {
        let begun = Instant::now();
        loop {
            let (mut not_told, mut set_aside) = (Vec::new(), 0);
            for holder in holders {
                let Ok((client, _)) = &holder.asked else { continue };
                let left = self.wait.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
                match tokio::time::timeout(left, client.held_of(peer)).await {
                    Ok(Ok(held)) if held.is_removed => set_aside += held.aside_count,
                    _ => not_told.push(holder.name.clone()),
                }
            }
            if not_told.is_empty() || begun.elapsed() >= self.wait {
                return (not_told, set_aside);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether it can be asked for at all.
fn check(client: &Client, known: &Known, peer: PeerId, successor: Option<PeerId>) -> Result<()> {
    let name = known.called(&peer);
    if client.about().peer == peer {
        let message = format!(
            "{name} is the peer that is asked: a peer is not removed by asking it; --connect another"
        );
        return Err(failure(Exit::Refused, message));
    }
    if successor == Some(peer) {
        return Err(failure(Exit::Usage, format!("{name} cannot succeed itself")));
    }
    if let Some(successor) = successor.filter(|one| known.members.iter().all(|member| member.peer != *one)) {
        let message =
            format!("{} is no member of the cluster, and cannot succeed it", known.called(&successor));
        return Err(failure(Exit::NotFound, message));
    }
    Ok(())
}

/// What one peer holds, by the connection there is or one of its own.
async fn ask(
    connection: &Connection,
    client: &Client,
    member: &Member,
    peer: PeerId,
    wait: Duration,
) -> Result<(Client, HeldOf)> {
    let client = connection.member(client, member, wait).await?;
    let held = within(wait, client.held_of(peer)).await?;
    is_still(&client, member)?;
    Ok((client, held))
}

/// The most of each run that anybody has.
fn together(holders: &[Holder]) -> RunEnds {
    let mut ends = RunEnds::new();
    for (_, held) in holders.iter().filter_map(|holder| holder.asked.as_ref().ok()) {
        for (topic, run, end) in &held.ends {
            let known = ends.entry((*topic, *run)).or_insert(*end);
            *known = (*known).max(*end);
        }
    }
    ends
}

impl RemovedJson {
    fn words(&self) -> String {
        let mut lines = vec![match self.is_done {
            true => format!("{} is removed for good", self.name),
            false => format!("{} is to be removed for good: {}", self.name, self.peer),
        }];
        for LeftJson { topic, runs, next_seq } in &self.left {
            let topic = topic.as_ref().map_or("a topic without a name", TopicName::as_str);
            let runs = show_count(*runs as u64, "run", "runs");
            lines.push(format!("  of {topic} counts what it wrote up to entry {}, in {runs}", next_seq - 1));
        }
        let or_nobody =
            |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        lines.push(format!("asked       {}", or_nobody(&self.asked)));
        for NotAskedJson { name, reason } in &self.not_asked {
            lines.push(format!("not asked   {name}: {reason}; what it alone has is set aside there"));
        }
        let successor = self.successor.as_deref().unwrap_or("nobody: its entries are kept for ever");
        lines.push(format!("successor   {successor}"));
        if self.is_done {
            lines.push(format!("set aside   {}", show_count(self.set_aside, "entry", "entries")));
            let not_told: BTreeSet<&String> = self.not_told.iter().collect();
            lines.extend(
                not_told.iter().map(|name| format!("not yet told {name}; it hears of it from others")),
            );
        }
        lines.join("\n")
    }
}
