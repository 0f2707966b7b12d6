//! What must hold when everything is up and has had its time.
use crate::cluster::catalog::check_catalog;
use crate::cluster::follower::Given;
use crate::cluster::kept::may_be_trimmed;
use crate::cluster::network::Weather;
use crate::cluster::remembered::check_remembered;
use crate::cluster::site::{LOG, Live, holds};
use crate::cluster::sought::check_sought;
use crate::cluster::written::{check_written, is_promised, promised_below};
use crate::cluster::{CATALOG, CLUSTER, Cluster, TOPICS, Topic, lock};
use conveyor::base::{EntryId, Head, LogId, RunId, Seq, TopicId};
use conveyor::log::read::{self, Single};
use conveyor::log::state::{LogState, Range, Run};
use conveyor::log::topic_reader::Start;
use conveyor::log::{Store, TopicReader};
use conveyor::replication::ReplicationConfig;
use conveyor::replication::ranges::Ranges;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes that a peer may lack when everything is healed.
const LACKED_BYTES_MAX: u64 = 64 << 20;

/// Sites at which readers from a time are checked at most.
const SOUGHT_AT_MAX: usize = 10;

/// Time within which healthy peers must hold the same: two comparisons, the bytes, and five seconds.
pub fn converged_within() -> Duration {
    let compare_ms = ReplicationConfig::default().compare_ms;
    let bytes_ms = LACKED_BYTES_MAX * 1000 / Weather::FAIR.bytes_per_s;
    Duration::from_millis(2 * compare_ms + bytes_ms + 5_000)
}

/// Reads a topic at a site from its beginning to its end.
pub fn read_all(cluster: &Cluster, site: usize, live: &Live, topic: Topic) -> io::Result<Given> {
    read_from(cluster, site, live, topic, Start::Oldest)
}

/// The same from anywhere.
pub fn read_from(
    cluster: &Cluster,
    site: usize,
    live: &Live,
    topic: Topic,
    start: Start,
) -> io::Result<Given> {
    let (store, mut given) = (live.handle.store().clone(), Given::default());
    let mut reader = TopicReader::open(store, CLUSTER, topic.id(), start, false)?;
    loop {
        let items = reader.next(64 << 10)?;
        if items.is_empty() {
            return Ok(given);
        }
        items.into_iter().for_each(|item| given.take(cluster, site, topic, item));
    }
}

/// Everything that is owed is there, everywhere where it must be, and nothing else is.
pub fn check_all(cluster: &Cluster) {
    check_among(cluster, &cluster.honest());
}

/// The same among some sites, who reach each other and perhaps nobody else.
pub fn check_among(cluster: &Cluster, sites: &BTreeSet<usize>) {
    cluster.census();
    let live = live_among(cluster, sites);
    let mut count = 0;
    for topic in TOPICS {
        let given = read_at(cluster, &live, topic);
        check_owed(cluster, topic, &live, &given, |_| true);
        check_written(cluster, topic, &live, &given);
        check_once(cluster, &given);
        // Of very many sites some, spread over all of them.
        let some = given.iter().step_by(given.len().div_ceil(SOUGHT_AT_MAX).max(1));
        some.for_each(|(site, given)| check_sought(cluster, *site, &live[site], topic, given));
        if cluster.setup.converges {
            check_alike(cluster, topic, &live, &given);
            check_books(cluster, topic, &live);
        }
        count += given.values().map(|given| given.entries.len()).sum::<usize>();
    }
    if cluster.setup.converges {
        live.keys().for_each(|site| check_mended(cluster, *site, &live));
        check_catalog(cluster, &live);
        check_books(cluster, CATALOG, &live);
    }
    for (site, live) in &live {
        check_bounds(cluster, *site, live);
        check_told(*site, live);
    }
    let owed = lock(&cluster.model).owed_count();
    cluster.recorder.note(format_args!("checked at {sites:?}: {count} entries, {owed} owed"));
}

fn live_among(cluster: &Cluster, sites: &BTreeSet<usize>) -> BTreeMap<usize, Live> {
    cluster.all_live().into_iter().filter(|(site, _)| sites.contains(site)).collect()
}

/// What each site gives of a topic, from its beginning to its end.
fn read_at(cluster: &Cluster, live: &BTreeMap<usize, Live>, topic: Topic) -> BTreeMap<usize, Given> {
    let read = |(site, live): (&usize, &Live)| {
        let given = read_all(cluster, *site, live, topic);
        (*site, given.unwrap_or_else(|error| panic!("{site} cannot be read: {error}")))
    };
    live.iter().map(read).collect()
}

/// What any of some sites held some time ago all of them have by now, whoever else there is.
pub fn check_spread(cluster: &Cluster, sites: &BTreeSet<usize>, before: &BTreeSet<EntryId>) {
    let live = live_among(cluster, sites);
    for topic in TOPICS {
        let given = read_at(cluster, &live, topic);
        check_owed(cluster, topic, &live, &given, |id| before.contains(id));
    }
}

/// P1: what was acknowledged is there, of the entries that `counts` names.
fn check_owed(
    cluster: &Cluster,
    topic: Topic,
    live: &BTreeMap<usize, Live>,
    given: &BTreeMap<usize, Given>,
    counts: impl Fn(&EntryId) -> bool,
) {
    let model = lock(&cluster.model);
    for (id, owed) in model.owed().filter(|(id, _)| id.topic == topic.id() && counts(id)) {
        // What one of those holds who reach each other, all of them must hold.
        let is_among = owed.holders.iter().any(|holder| live.contains_key(holder));
        let must = |site: &usize| (cluster.setup.converges && is_among) || owed.holders.contains(site);
        for (site, given) in given.iter().filter(|(site, _)| must(site)) {
            let is_there = given.entries.contains(id)
                || (is_trimmed(&live[site], id) && may_be_trimmed(&model, live, &live[site], id))
                || model.is_set_aside(id)
                || is_behind_a_hole(&live[site], id);
            assert!(
                is_there,
                "P1: {id:?} was acknowledged and is not at {site}: {owed:?}; {}",
                told_everywhere(live, id)
            );
        }
    }
}

/// Whether an entry can be had by its id, and a reader waits before it for one that is lost for good.
pub fn is_behind_a_hole(live: &Live, id: &EntryId) -> bool {
    let store = live.handle.store();
    let Some(log) = store.log(&id.log()) else { return false };
    let is_held = matches!(read::get(store, &log, id), Ok(Single::Entry(..)));
    let state = log.look();
    let lacking: Vec<Range> = state.damaged.iter().copied().chain(state.holes()).collect();
    // The hole may also lie in a run that this one goes on from: readers wait there too.
    // And so may all of a run that nothing here is of.
    let is_whole = |run: &Run| run.has_beginning() && run.start >= run.from;
    let is_unknown = |run: &Run| run.parent.is_some() && state.run(run.parent).is_none() && !is_whole(run);
    let is_before = |(run, end): (&Run, Seq)| {
        if is_unknown(run) {
            return true;
        }
        let end = if run.id == id.run { id.seq.after(1) } else { end };
        run.until < end || lacking.iter().any(|range| range.run == run.id && range.from < end)
    };
    is_held && state.chain(id.run).any(is_before)
}

/// What each site says of an entry.
fn told_everywhere(live: &BTreeMap<usize, Live>, id: &EntryId) -> String {
    let told: Vec<String> = live.iter().map(|(site, live)| format!("{site}: {}", told(live, id))).collect();
    told.join("; ")
}

/// What is known of a run, in short.
pub fn told_run(run: &Run) -> String {
    let (id, parent) = (run.id.short(), run.parent.short());
    format!("{id} on {parent} [{}..{}..{})", run.from, run.start, run.until)
}

/// What a store says of an entry and its run.
pub fn told(live: &Live, id: &EntryId) -> String {
    let store = live.handle.store();
    let Some(log) = store.log(&id.log()) else { return "its log is unknown".to_owned() };
    let got = match read::get(store, &log, id) {
        Ok(Single::Entry(..)) => "is here".to_owned(),
        other => format!("{other:?}"),
    };
    let state = log.look();
    let range = |range: &Range| format!("{}/{}..{}", range.run.short(), range.from, range.until);
    let ranges = |all: &[Range]| all.iter().map(range).collect::<Vec<_>>().join(" ");
    let (damaged, holes) = (ranges(&state.damaged), ranges(&state.holes()));
    let head = |head: &Head| format!("{} from {} start {}", head.run.short(), head.from, head.start);
    let heads: Vec<String> = state.heads.iter().map(|(at, _)| head(at)).collect();
    let runs: Vec<String> = state.runs.iter().map(told_run).collect();
    let (runs, heads) = (runs.join(", "), heads.join(", "));
    let forks = state.forks.len();
    format!("it {got}; runs {runs}; {forks} forks; damaged {damaged}; holes {holes}; heads {heads}")
}

/// Whether the books of a store say that an entry was trimmed.
pub fn is_trimmed(live: &Live, id: &EntryId) -> bool {
    let store = live.handle.store();
    let got = store.log(&id.log()).map(|log| read::get(store, &log, id));
    matches!(got, Some(Ok(Single::Trimmed(_))))
}

/// P4: all hold the same, but of what a peer wrote who signs two contents for one id more often than is kept: there each
/// has what came first, and the other does not go on from it.
fn check_alike(
    cluster: &Cluster,
    topic: Topic,
    live: &BTreeMap<usize, Live>,
    given: &BTreeMap<usize, Given>,
) {
    let Some((first, of_first)) = given.first_key_value() else { return };
    let model = lock(&cluster.model);
    let counts = |id: &&EntryId| is_promised(&model, id, live);
    // Where a cheat keeps something back, what the ends of runs would show is not seen: what lies before may differ too.
    let is_whole = |id: &&EntryId| {
        !model.is_two_faced(&id.peer) || promised_below(&model, &id.log(), live) == Seq(u64::MAX)
    };
    for (site, other) in given {
        let both = of_first.entries.intersection(&other.entries);
        let other_content = |id: &&EntryId| of_first.content_of(id) != other.content_of(id);
        let changed: Vec<&EntryId> = both.filter(is_whole).filter(other_content).take(3).collect();
        assert!(
            changed.is_empty(),
            "P2: {first} and {site} hold other contents of {changed:?}; {}",
            changed.first().map_or_else(String::new, |id| told_everywhere(live, id))
        );
        let differs = of_first.entries.symmetric_difference(&other.entries);
        let differs: Vec<&EntryId> = differs.filter(counts).take(3).collect();
        let name = topic.name();
        assert!(
            differs.is_empty(),
            "P4: {first} and {site} hold different entries of {name}: {differs:?}; {}",
            differs.first().map_or_else(String::new, |id| told_everywhere(live, id))
        );
    }
}

/// P4: and their books say the same.
fn check_books(cluster: &Cluster, topic: Topic, live: &BTreeMap<usize, Live>) {
    let model = lock(&cluster.model);
    let honest = |mut books: Books| {
        for ((log, _), ranges) in &mut books {
            if model.is_two_faced(&log.peer) {
                ranges.remove(promised_below(&model, log, live), Seq(u64::MAX));
            }
        }
        books.retain(|_, ranges| !ranges.is_empty());
        books
    };
    let books: BTreeMap<usize, Books> =
        live.iter().map(|(site, live)| (*site, honest(books(live.handle.store(), topic.id())))).collect();
    let Some((first, of_first)) = books.first_key_value() else { return };
    for (site, other) in &books {
        let name = topic.name();
        assert_eq!(of_first, other, "P4: the books of {first} and {site} differ for {name}");
    }
}

/// What is held of each run of a topic: what is neither trimmed nor damaged. What was lost in part and came back may lie
/// in two places, so these are sets.
pub type Books = BTreeMap<(LogId, RunId), Ranges>;

/// What a store holds of a topic.
pub fn books(store: &Store, topic: TopicId) -> Books {
    let mut books = Books::new();
    for log in store.logs_of(topic) {
        let state = log.look();
        for span in &state.spans {
            let start = state.run(span.run).map_or(span.from, |run| state.start_of(run));
            let until = state.run(span.run).map_or(span.until, |run| span.until.min(run.until));
            books.entry((log.id, span.run)).or_default().insert(span.from.max(start), until);
        }
        for range in &state.damaged {
            books.entry((log.id, range.run)).or_default().remove(range.from, range.until);
        }
    }
    books.retain(|_, ranges| !ranges.is_empty());
    books
}

/// What is missing at the ends of runs that others go on from further on.
fn severed(state: &LogState) -> Vec<Range> {
    let ends = state.runs.iter().filter(|run| run.has_beginning()).filter_map(|run| {
        let parent = state.run(run.parent)?;
        Some(Range { run: parent.id, from: parent.until.max(parent.start), until: run.from })
    });
    ends.filter(|range| range.from < range.until).collect()
}

/// P4: what one lacks or found damaged nobody has.
fn check_mended(cluster: &Cluster, site: usize, live: &BTreeMap<usize, Live>) {
    let model = lock(&cluster.model);
    for log in live[&site].handle.store().logs() {
        let lacks = [log.look().damaged_not_lost(), log.look().holes(), severed(&log.look())].concat();
        // Who signs two contents for one id too often leaves holes between what does not go on from each other.
        let is_sure = |id: &EntryId| is_promised(&model, id, live) && !is_trimmed(&live[&site], id);
        for Range { run, from, until } in lacks {
            let ids = (from.0..until.0).map(|seq| EntryId {
                topic: log.id.topic,
                peer: log.id.peer,
                run,
                seq: Seq(seq),
            });
            for id in ids.filter(is_sure) {
                let had = live.iter().find(|(_, other)| holds(other.handle.store(), &id));
                let other = had.map(|(other, _)| other);
                assert_eq!(
                    other,
                    None,
                    "P4: {site} lacks {id:?}, which is at {other:?}, {}",
                    told(&live[&site], &id)
                );
            }
        }
    }
}

/// A retry at the peer that took it the first time is the same entry.
fn check_once(cluster: &Cluster, given: &BTreeMap<usize, Given>) {
    for (site, given) in given {
        let twice = lock(&cluster.model).find_twice(&given.entries);
        assert!(twice.is_none(), "{site} holds one append twice: {twice:?}");
    }
}

/// P5: a reader that was given time has everything that its site has.
pub fn check_followed(cluster: &Cluster, site: usize, topic: Topic, follower: &Mutex<Given>) {
    let Some(live) = cluster.live(site) else { return };
    let held = read_all(cluster, site, &live, topic).unwrap_or_else(|error| panic!("{error}"));
    let honest = live_among(cluster, &cluster.honest());
    let (follower, model) = (lock(follower), lock(&cluster.model));
    // What was given and is lost for good (to power, in a buffered topic, or with a disk) is waited for: the reader was
    // told, and has to begin anew.
    let waits_in_vain = |id: &EntryId| {
        let is_there = |last: &EntryId| match (model.is_two_faced(&last.peer), cluster.setup.converges) {
            (false, converges) => model.is_owed(last, (!converges).then_some(site)),
            (true, true) => honest.values().any(|live| holds(live.handle.store(), last)),
            (true, false) => holds(live.handle.store(), last),
        };
        // The same where it is here, and what its run begins with is not: how that goes on from what was read is not known.
        let last = follower.waits_for(&id.log());
        last.is_some_and(|last| !is_there(&last) || is_behind_a_hole(&live, &last))
    };
    // What a two-faced peer wrote may have been given under another name; and of what a cheat signed for one number, as one
    // run goes on from another that it never showed here, no more than one need be. Nor where a reader went on elsewhere in
    // a run before it was known to have forked: its cursor names the run, and not what was read of it.
    let contents = follower.contents();
    let numbers: BTreeSet<(LogId, Seq)> = contents.iter().map(|(log, seq, _)| (*log, *seq)).collect();
    let was_given = |id: &EntryId| {
        let is_it = held.content_of(id).is_some_and(|content| contents.contains(&content));
        let is_mixed = model.is_two_faced(&id.peer) && follower.went_on_elsewhere(&id.log(), id.seq);
        is_it || is_mixed || (model.is_cheat(&id.peer) && numbers.contains(&(id.log(), id.seq)))
    };
    let counts = |id: &EntryId| is_promised(&model, id, &honest);
    let is_missed =
        |id: &&EntryId| !follower.accounts_for(id) && !was_given(id) && !waits_in_vain(id) && counts(id);
    let missed = held.entries.iter().find(is_missed);
    assert!(
        missed.is_none(),
        "P5: a reader at {site} passed over {missed:?}: {}",
        missed.map_or_else(String::new, |id| format!("{}, {}", follower.told(&id.log()), told(&live, id)))
    );
}

/// What others are told of a store is what its log holds, whenever no step is under way.
pub fn check_told(site: usize, live: &Live) {
    let differs = live.handle.books_differ();
    assert_eq!(differs, None, "P4: what {site} tells others is not what its log says");
}

/// Looks at the bounds of all processes each second, for as long as the run lasts.
pub async fn watch_bounds(cluster: Arc<Cluster>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let live = cluster.all_live();
        live.iter().for_each(|(site, live)| check_bounds(&cluster, *site, live));
    }
}

/// P9: memory stays within its bounds.
pub fn check_bounds(cluster: &Cluster, site: usize, live: &Live) {
    let store = live.handle.store();
    let (unflushed, in_flight) = (store.unflushed_bytes(), live.handle.in_flight_bytes());
    let bound = LOG.unflushed_bytes_max + STEP_BYTES_MAX;
    assert!(unflushed <= bound, "P9: {site} has {unflushed} bytes that are in no segment");
    let taken_max = cluster.setup.in_flight_bytes_max;
    assert!(in_flight <= taken_max, "P9: {site} has {in_flight} bytes of appends under way");
    check_remembered(cluster, site, live);
}

/// Bytes of the largest step that a simulation writes.
const STEP_BYTES_MAX: usize = 4 << 20;
