//! Who asks a peer for an entry by its id gets one of four answers, and never a wrong one: the entry itself, or that it was
//! trimmed, or that it is lost for good, or that it is not here yet.
//!
//! ```text
//! known facts ──get──> the entry: the same payload and time · trimmed: where it may be · lost: where nobody has it
//!                      not here: where it is not owed · of what never was: not here, whatever is said of its neighbours
//! ```
use crate::cluster::kept::may_be_trimmed;
use crate::cluster::model::{Fact, payload};
use crate::cluster::site::Live;
use crate::cluster::{Cluster, TOPICS, lock};
use conveyor::base::name::PeerRef;
use conveyor::base::{EntryId, EntryRef, EntryView};
use conveyor::runtime::Found;
use conveyor::wire::outcome::ReadError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Ids that a site is asked for at once at most.
const ASKED_MAX: usize = 24;
/// Numbers behind an entry that no log comes to.
const FAR: u64 = 1 << 40;
/// How long a peer may take to answer; who takes longer is frozen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks all honest sites that run. `is_quiet` says that each had its time to get what the others have.
pub async fn check_answers(cluster: &Cluster, is_quiet: bool) {
    let honest = cluster.honest();
    let live: BTreeMap<usize, Live> =
        cluster.all_live().into_iter().filter(|(site, _)| honest.contains(site)).collect();
    check_answers_among(cluster, &live, is_quiet).await;
}

/// Asks these sites.
pub async fn check_answers_among(cluster: &Cluster, live: &BTreeMap<usize, Live>, is_quiet: bool) {
    let sites: BTreeSet<usize> = live.keys().copied().collect();
    for (id, fact) in to_ask(cluster) {
        for (site, of_site) in live {
            let asks = Asks { cluster, sites: &sites, site: *site, live: of_site, is_quiet };
            asks.of_fact(&id, fact).await;
        }
    }
}

/// Some of what is known, spread over all of it. What peers wrote whose runs forked may have other names by now.
fn to_ask(cluster: &Cluster) -> Vec<(EntryId, Fact)> {
    let model = lock(&cluster.model);
    let facts = || model.facts().filter(|(id, _)| !model.is_two_faced(&id.peer));
    let step = facts().count().div_ceil(ASKED_MAX).max(1);
    facts().step_by(step).map(|(id, fact)| (*id, *fact)).collect()
}

/// Somebody who asks one site.
struct Asks<'a> {
    cluster: &'a Cluster,
    sites: &'a BTreeSet<usize>,
    site: usize,
    live: &'a Live,
    is_quiet: bool,
}

impl Asks<'_> {
    async fn of_fact(&self, id: &EntryId, fact: Fact) {
        let was_owed = self.is_owed(id);
        if let Some(answer) = self.ask(id).await {
            self.check(id, fact, was_owed, &answer);
        }
        let never = EntryId { seq: id.seq.after(FAR), ..*id };
        if let Some(answer) = self.ask(&never).await {
            let is_right = is_not_here(&answer) || self.may_be_broken(&answer);
            assert!(is_right, "P7: {} says of what never was, {never:?}: {answer:?}", self.site);
        }
    }

    /// The answer; none where the process ended, or stands still.
    async fn ask(&self, id: &EntryId) -> Option<Result<Found, ReadError>> {
        let topic = TOPICS.iter().find(|topic| topic.id() == id.topic)?.name();
        let (peer, run) = (PeerRef::Key(id.peer), id.run.to_string());
        let id = EntryRef { topic, peer, run, signed_run: None, seq: id.seq };
        let asked = self.live.life.unless_ended(self.live.handle.get(&id));
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    }

    fn check(&self, id: &EntryId, fact: Fact, was_owed: bool, answer: &Result<Found, ReadError>) {
        let all = self.cluster.all_live();
        let is_owed = was_owed && self.is_owed(id);
        let model = lock(&self.cluster.model);
        let is_right = match answer {
            Ok(found) => {
                let is_it =
                    EntryView::parse(&found.raw).is_ok_and(|view| *view.payload == payload(fact.nonce));
                is_it && (found.id, found.time) == (*id, fact.time)
            }
            Err(ReadError::IdTrimmed { .. }) => may_be_trimmed(&model, &all, self.live, id),
            Err(ReadError::IdLost { .. }) => !model.is_owed(id, None),
            // What forked since it was asked is asked for by its branch.
            Err(ReadError::Forked { .. }) => model.is_two_faced(&id.peer),
            answer if is_not_here(answer) => !is_owed || model.is_set_aside(id),
            answer => self.may_be_broken(answer),
        };
        drop(model);
        assert!(
            is_right,
            "P7: {} is asked for {id:?} ({fact:?}, owed: {is_owed}), and says {answer:?}",
            self.site
        );
    }

    /// Whether the entry must be here.
    fn is_owed(&self, id: &EntryId) -> bool {
        let model = lock(&self.cluster.model);
        let is_anywhere = || self.sites.iter().any(|site| model.is_owed(id, Some(*site)));
        let must_spread = self.is_quiet && self.cluster.setup.converges;
        !model.is_unsure(self.site) && (model.is_owed(id, Some(self.site)) || (must_spread && is_anywhere()))
    }

    /// Whether the disk may be at fault.
    fn may_be_broken(&self, answer: &Result<Found, ReadError>) -> bool {
        let may_fail = self.cluster.with_site(self.site, |site| site.may_fail());
        matches!(answer, Err(ReadError::Io { .. }) if may_fail) || matches!(answer, Err(ReadError::Stopped))
    }
}

/// Not yet, not any more since it is damaged, or not known: to be asked for again, or elsewhere.
fn is_not_here(answer: &Result<Found, ReadError>) -> bool {
    matches!(answer, Err(ReadError::IdAhead { .. } | ReadError::IdUnknown { .. } | ReadError::Damaged { .. }))
}
