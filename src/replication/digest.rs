//! Comparing what two stores hold, at a cost that grows with what differs: a tree of sums of hashes over the logs' tags.
//!
//! ```text
//! all logs ─ 16 parts ─ 16 parts … until a part has few logs; then their hashes one by one
//! ```
//!
//! Each comparison draws a salt, so that a collision of hashes hides a difference once, not for ever.
use crate::base::planted::{self, Bug};
use crate::replication::bounds::{BUCKETS_MAX, DIFFERING_MAX, TOLD_MAX};
use crate::replication::held::Held;
use crate::wire::peer::{Bucket, LogTag, PeerMessage, Prefix};
use std::collections::BTreeMap;

/// Logs of a bucket that are told one by one rather than in parts.
const LEAVES_MAX: u32 = 48;

/// What all logs under `prefix` come to.
fn bucket(held: &Held, salt: u64, prefix: Prefix) -> Bucket {
    let sum = |(hash, count): (u64, u32), (_, leaf): (LogTag, u64)| (hash.wrapping_add(leaf), count + 1);
    let (mut hash, count) = held.leaves(salt, prefix).fold((0, 0), sum);
    if planted::is(Bug::DigestsAlwaysEqual) {
        hash = 0;
    }
    Bucket { prefix, hash, count }
}

/// The message with which a comparison begins.
pub fn begin(held: &Held, salt: u64) -> PeerMessage {
    PeerMessage::Digest { salt, buckets: vec![bucket(held, salt, Prefix::ALL)] }
}

/// What to answer to buckets of another store: parts of those that differ, or their logs where they are few; and whether
/// some that differ were passed over. Which ones these are follows from the salt, so that in time all are followed.
pub fn answer(held: &Held, salt: u64, buckets: &[Bucket]) -> (Vec<PeerMessage>, bool) {
    let mut differing = differing_buckets(held, salt, buckets);
    let is_cut = differing.len() > DIFFERING_MAX;
    if is_cut {
        let first = (salt % differing.len() as u64) as usize;
        differing.rotate_left(first);
        differing.truncate(DIFFERING_MAX);
        differing.sort_by_key(|(theirs, _)| theirs.prefix.bits);
    }
    let (mut parts, mut answers) = (Vec::new(), Vec::new());
    for (theirs, ours) in differing {
        if ours.count.max(theirs.count) <= LEAVES_MAX || theirs.prefix.depth >= 16 {
            let logs = held.leaves(salt, theirs.prefix).collect();
            answers.push(PeerMessage::Leaves { salt, prefix: theirs.prefix, logs });
        } else {
            parts.extend(theirs.prefix.parts().map(|part| bucket(held, salt, part)));
        }
    }
    if !parts.is_empty() {
        answers.push(PeerMessage::Digest { salt, buckets: parts });
    }
    (answers, is_cut)
}

/// Their buckets that differ from ours, each with ours. No log is looked at twice, whatever another store sends.
fn differing_buckets(held: &Held, salt: u64, buckets: &[Bucket]) -> Vec<(Bucket, Bucket)> {
    let (mut differing, mut last) = (Vec::new(), None);
    for theirs in buckets.iter().take(BUCKETS_MAX) {
        if last.is_some_and(|last| theirs.prefix.bits <= last) {
            continue;
        }
        last = Some(theirs.prefix.last().0);
        let ours = bucket(held, salt, theirs.prefix);
        if ours != *theirs {
            differing.push((*theirs, ours));
        }
    }
    differing
}

/// The tags of logs that differ from what another store says of all under `prefix`: those held here, and those it holds.
pub fn differing(
    held: &Held,
    salt: u64,
    prefix: Prefix,
    theirs: &[(LogTag, u64)],
) -> (Vec<LogTag>, Vec<LogTag>) {
    let sum = |leaves: &mut dyn Iterator<Item = (LogTag, u64)>| {
        let mut sums: BTreeMap<LogTag, u64> = BTreeMap::new();
        for (tag, hash) in leaves {
            let of_tag = sums.entry(tag).or_default();
            *of_tag = of_tag.wrapping_add(hash);
        }
        sums
    };
    let ours = sum(&mut held.leaves(salt, prefix));
    let theirs = sum(&mut theirs.iter().copied().filter(|(tag, _)| prefix.holds(*tag)).take(TOLD_MAX));
    let tell = ours
        .iter()
        .filter(|(tag, hash)| theirs.get(tag) != Some(hash))
        .map(|(tag, _)| *tag)
        .take(TOLD_MAX)
        .collect();
    let ask = theirs.iter().filter(|(tag, hash)| ours.get(tag) != Some(hash)).map(|(tag, _)| *tag).collect();
    (tell, ask)
}
