//! A reader that goes on for the whole run, over restarts and on other directories, with nothing but its cursor.
use crate::storage::check::Delivered;
use crate::storage::site::Site;
use crate::storage::{CLUSTER, Shared, Topic};
use conveyor::base::{Cursor, EntryId};
use conveyor::log::topic_reader::{Start, TopicReader};
use std::collections::BTreeSet;
use std::io;

/// A reader from the start of a topic.
pub struct Follower {
    /// The topic.
    pub topic: Topic,
    cursor: Option<Cursor>,
    delivered: Delivered,
}

impl Follower {
    /// A reader that has read nothing.
    pub fn new(topic: Topic) -> Self {
        Self { topic, cursor: None, delivered: Delivered::default() }
    }

    /// Reads on at `site`: a few times, or until nothing more comes; says whether it came to the end.
    pub fn read(&mut self, site: &Site, shared: &mut Shared, rounds: usize) -> io::Result<bool> {
        self.delivered.is_blocked = false;
        self.delivered.may_repeat |= site.harm.is_told || site.harm.has_lied || site.harm.is_cut;
        let Some(live) = &site.live else { return Ok(false) };
        let start = self.cursor.clone().map_or(Start::Oldest, Start::Cursor);
        let mut reader = TopicReader::open(live.store.clone(), CLUSTER, self.topic.id(), start, true)?;
        let (mut is_at_end, mut count) = (false, 0);
        for _ in 0..rounds {
            let items = reader.next(shared.random.between(1, 20_000) as usize)?;
            if items.is_empty() {
                is_at_end = true;
                break;
            }
            count += items.len();
            items.into_iter().for_each(|item| self.delivered.take(shared, item));
            self.cursor = Some(keep(&reader.cursor()));
        }
        let name = self.topic.name();
        shared.trace.note(format_args!(
            "{} follower of {}: {count} items, end {is_at_end}",
            site.index,
            name.as_str()
        ));
        Ok(is_at_end)
    }

    /// Whether it waits for something that is not here.
    pub fn is_blocked(&self) -> bool {
        self.delivered.is_blocked
    }

    /// At the end of the topic nothing that a reader from the start gets was passed over.
    pub fn check(&self, held: &BTreeSet<EntryId>) {
        if self.delivered.may_repeat {
            return;
        }
        let missed =
            held.iter().find(|id| !self.delivered.entries.contains(id) && !self.delivered.has_gap(id));
        assert_eq!(
            missed, None,
            "P5: a reader with a cursor passed over an entry; it stands at {:?}",
            self.cursor
        );
    }
}

/// As a client does: written down as a word and read back.
fn keep(cursor: &Cursor) -> Cursor {
    cursor.to_string().parse().expect("a cursor reads back what it prints")
}
