//! What can be found without a checkpoint and without the journal: by walking segments.
//!
//! A store needs it when its checkpoint is unreadable, when a file of the journal is missing, or when a topic's name was
//! lost to damage. It reads every segment, which takes as long as the store is large, and it is told as damage.
//!
//! A segment in which nothing tells whose it is, and that no book speaks of, gets another name, `….damaged`: the log would
//! begin where it lies. What a disk cannot read of a segment is passed over, and told.
use crate::base::batch::{self, BatchHeader};
use crate::base::fork::Side;
use crate::base::{Fork, LogId, RunId, Seq, TopicId, TopicName, statement};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::place::{self, Place};
use crate::log::segment;
use crate::log::state::LogState;
use crate::log::store::{Log, Store};
use std::collections::BTreeMap;
use std::io;

/// Sectors that cannot be read which a walk of a segment asks for one by one.
pub(super) const ERRORS_MAX: usize = 64;

/// Finds everything by walking every segment: for a store whose checkpoint is unreadable. Answers what is damaged, in words.
pub(crate) fn rebuild(store: &Store) -> io::Result<Vec<String>> {
    let mut firsts = Firsts::new();
    let (mut damage, mut untold) = (Vec::new(), Vec::new());
    let (mut read_count, mut errors) = (0, Vec::new());
    for ((stem, number), dir) in segments(&*store.disk)? {
        match rebuild_segment(store, &stem, number, &dir, &mut firsts) {
            Ok(Walked::Log { is_whole: true } | Walked::Empty) => read_count += 1,
            Ok(Walked::Log { is_whole: false }) => {
                read_count += 1;
                damage.push(format!("{}: the disk cannot read parts of it", path_of(&stem, number)));
            }
            Ok(Walked::Untold) => {
                untold.push((stem, number, dir, "nothing in it tells whose it is".to_owned()))
            }
            Err(error) => {
                untold.push((stem, number, dir, error.to_string()));
                errors.push(error);
            }
        }
    }
    // One bad file is a bad file; where most are, the disk is away.
    if errors.len() > read_count.max(1) {
        return Err(errors.swap_remove(0));
    }
    add_forks(store, &firsts);
    for (stem, number, dir, why) in &untold {
        damage.push(keep_untold(store, stem, *number, dir, why)?);
    }
    Ok(damage)
}

/// What a segment turned out to be.
enum Walked {
    /// A log's. It is whole when the disk could read all of it.
    Log { is_whole: bool },
    /// Without a byte.
    Empty,
    /// Nobody's that could be told.
    Untold,
}

/// Sees to it that an unreadable segment is never written again: its log goes on in a segment behind it. Where no log has
/// anything in it, it gets another name, since a log that is made later would begin at its number. Answers what to tell.
fn keep_untold(store: &Store, stem: &str, number: u32, dir: &str, why: &str) -> io::Result<String> {
    let path = path_of(stem, number);
    let behind = Some(Place { segment: number + 1, offset: 0 });
    let mut is_known = false;
    for log in store.logs().iter().filter(|log| place::segment_path(&log.dir, &log.id, number) == path) {
        let mut state = log.change();
        state.next_place = state.next_place.max(behind);
        is_known |= state.spans.iter().any(|span| span.segment == number);
    }
    if is_known {
        return Ok(format!("{path}: it cannot be read ({why})"));
    }
    let names = store.disk.list(dir)?;
    let names_of = |count: u32| match count {
        0 => place::damaged_segment_path(&path, String::new()),
        _ => place::damaged_segment_path(&path, format!("-{count}")),
    };
    // What was kept under that name before stays.
    let is_free = |kept: &String| !names.iter().any(|name| format!("{dir}/{name}") == *kept);
    let kept = (0..).map(names_of).find(is_free).expect("a directory has fewer names than there are numbers");
    store.disk.rename(&path, &kept)?;
    store.disk.sync_dir(dir)?;
    Ok(format!("{path}: it cannot be read ({why}), and is kept as {kept}"))
}

fn path_of(stem: &str, number: u32) -> String {
    format!("{stem}-{number:08x}.segment")
}

/// The first batches of branches, by the run that forked and where.
type Firsts = BTreeMap<(LogId, RunId, Seq), Vec<Side>>;

/// Two branches that go on from one run prove where it forked. Where one of them is not here, the proof is had again from
/// others; until then the run goes on beside its branch, with the same entries.
fn add_forks(store: &Store, firsts: &Firsts) {
    for ((log, run, _), sides) in firsts {
        let Some(log) = store.log(log) else { continue };
        let others = sides.iter().skip(1).filter_map(|other| Fork::of(*run, &sides[0], other));
        others.for_each(|fork| log.change().add_fork(&fork));
    }
}

/// All segments: the path up to their number, the number, and the directory.
pub(crate) fn segments(disk: &dyn Disk) -> io::Result<BTreeMap<(String, u32), String>> {
    let mut found = BTreeMap::new();
    for dir in disk.list(place::TOPICS_DIR)? {
        let path = format!("{}/{dir}", place::TOPICS_DIR);
        for name in disk.list(&path)? {
            let number = name.strip_suffix(".segment").and_then(|stem| stem.rsplit_once('-'));
            if let Some((peer, number)) = number
                && let Ok(number) = u32::from_str_radix(number, 16)
            {
                found.insert((format!("{path}/{peer}"), number), path.clone());
            }
        }
    }
    Ok(found)
}

/// The directory that holds segments of `topic`.
pub(crate) fn dir_of(store: &Store, topic: TopicId) -> io::Result<Option<String>> {
    for ((stem, number), dir) in segments(&*store.disk)? {
        let file = OverBadSectors::new(store.disk.open(&path_of(&stem, number), OpenMode::Read)?, ERRORS_MAX);
        // One that cannot be read tells nothing.
        if let Ok(Some(log)) = log_in(store, &file, file.len()?)
            && log.topic == topic
        {
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

fn rebuild_segment(
    store: &Store,
    stem: &str,
    number: u32,
    dir: &str,
    firsts: &mut Firsts,
) -> io::Result<Walked> {
    let file = OverBadSectors::new(store.disk.open(&path_of(stem, number), OpenMode::Read)?, ERRORS_MAX);
    let end = file.len()?;
    if end == 0 {
        return Ok(Walked::Empty);
    }
    let Some(log) = log_in(store, &file, end)? else { return Ok(Walked::Untold) };
    let name = unescape(dir).unwrap_or_else(|| unnamed(log.topic));
    store.add_topic(log.topic, name.clone());
    if store.log(&log).is_none() {
        store.put_log(Log::new(log, dir.into(), LogState::new()));
    }
    let log = store.log_or_new(log, &name);
    // An entry's bytes may look like a batch where the header before them is damaged.
    let is_signed = |header: &BatchHeader| store.is_signed(header);
    let mut walk = segment::Walk::new(&file, 0, end).checked(&is_signed);
    let mut state = log.change();
    while let Some((offset, header)) = walk.next(&log.id)? {
        // Of the bytes whose checksum was right: read again they might be others.
        let link = statement::link(&header.statement.encode(), &header.signature);
        let place = Place { segment: number, offset };
        let s = &header.statement;
        if s.signed.is_some() && s.opens_run {
            let sides = firsts.entry((s.log, s.parent, s.first_seq)).or_default();
            sides.push((s.as_signed(), header.signature));
        }
        if !state.holds_at(&header.statement, place) {
            state.add(&header.statement, link, place, header.batch_bytes() as u64);
        }
    }
    // What comes next goes to a segment of its own: the end of this one is not known for sure.
    state.next_place = state.next_place.max(Some(Place { segment: number + 1, offset: 0 }));
    Ok(Walked::Log { is_whole: !file.has_errors() })
}

/// The log that a segment belongs to: that of the first header in it that is sound and signed.
fn log_in(store: &Store, file: &dyn DiskFile, end: u64) -> io::Result<Option<LogId>> {
    let mut at = 0;
    while at < end {
        let block = segment::read_block(file, at, (1 << 20) + batch::HEADER_BYTES)?;
        let places = block.len().saturating_sub(batch::HEADER_BYTES - 1);
        let header = |i: usize| block[i..].first_chunk().and_then(|bytes| BatchHeader::parse(bytes).ok());
        let mut headers = (0..places).filter(|i| block[*i..*i + 4] == *b"CVYB").filter_map(header);
        let found = headers.find(|header| store.is_signed(header));
        if found.is_some() || places == 0 {
            return Ok(found.map(|header| header.statement.log));
        }
        at += places as u64;
    }
    Ok(None)
}

/// The name that a topic's directory spells; `None` when it was too long to be spelled.
pub(crate) fn unescape(dir: &str) -> Option<TopicName> {
    let escaped = dir.strip_prefix("topics/")?;
    let (mut bytes, mut rest) = (Vec::new(), escaped.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    TopicName::system(&String::from_utf8(bytes).ok()?).ok()
}

/// What a topic is called whose name was lost to damage.
pub(crate) fn unnamed(topic: TopicId) -> TopicName {
    TopicName::system(&format!("$unnamed-{topic}")).expect("forty-two plain characters are a name")
}

/// Whether a topic's name was made up.
pub(crate) fn is_unnamed(name: &TopicName) -> bool {
    name.as_str().starts_with("$unnamed-")
}
