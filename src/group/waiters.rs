//! Consumers that wait for entries of one group: who came first is served first.
use crate::group::io::{Consumer, Ticket};
use std::collections::{BTreeMap, BTreeSet};

/// How much longer than it wanted to somebody waits while it is not known whether there is anything, in milliseconds.
pub const LATE_MS: u64 = 5_000;

/// Who waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Who is answered.
    pub ticket: Ticket,
    /// Whose leases they are.
    pub consumer: Consumer,
    /// Entries at most.
    pub count_max: u32,
    /// Raw bytes at most, but for the first.
    pub bytes_max: u64,
    /// How long they are leased; `None`: as the group is set.
    pub lease_ms: Option<u64>,
    /// Until when it waits.
    pub until_ms: u64,
}

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub struct Waiters {
    next: u64,
    all: BTreeMap<u64, Waiter>,
    tickets: BTreeMap<Ticket, u64>,
    ends: BTreeSet<(u64, u64)>,
}

impl Waiters {
    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One more.
    pub fn push(&mut self, waiter: Waiter) {
        self.next += 1;
        self.all.insert(self.next, waiter);
        self.tickets.insert(waiter.ticket, self.next);
        self.ends.insert((waiter.until_ms, self.next));
    }

    /// Who came first, but for so many.
    pub fn first_but(&self, count: usize) -> Option<Waiter> {
        self.all.values().nth(count).copied()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.all.values()
    }

    /// One who is served, or gone.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let at = self.tickets.remove(&ticket)?;
        let waiter = self.all.remove(&at)?;
        self.ends.remove(&(waiter.until_ms, at));
        Some(waiter)
    }

    /// One who does not want to wait longer.
    pub fn late(&self, now_ms: u64) -> Option<Waiter> {
        let (_, at) = self.ends.first().filter(|end| end.0 <= now_ms)?;
        self.all.get(at).copied()
    }

    /// When somebody does not want to wait longer; those who did not want to longer already wait a bit more.
    pub fn next_late(&self, now_ms: u64) -> Option<u64> {
        let first = self.ends.first()?.0;
        if first > now_ms {
            return Some(first);
        }
        let next = self.ends.range((now_ms + 1, 0)..).next().map(|end| end.0);
        Some(next.map_or(first + LATE_MS, |next| next.min(first + LATE_MS)))
    }

    /// Nobody waits any more.
    pub fn take_all(&mut self) -> Vec<Waiter> {
        std::mem::take(self).all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(ticket: Ticket, until_ms: u64) -> Waiter {
        Waiter { ticket, consumer: 1, count_max: 1, bytes_max: 1, lease_ms: None, until_ms }
    }

    #[test]
    fn who_came_first_is_first_and_who_left_is_not() {
        let mut waiters = Waiters::default();
        for (ticket, until_ms) in [(5, 300), (6, 100), (7, 200)] {
            waiters.push(waiter(ticket, until_ms));
        }
        assert_eq!(waiters.first_but(0), Some(waiter(5, 300)));
        assert_eq!((waiters.late(99), waiters.late(100)), (None, Some(waiter(6, 100))));
        assert_eq!(waiters.next_late(99), Some(100));
        assert_eq!(
            waiters.next_late(150),
            Some(200),
            "whoever is late already does not wake anybody at once"
        );
        assert_eq!(waiters.remove(5), Some(waiter(5, 300)));
        assert_eq!(waiters.remove(5), None);
        assert_eq!(waiters.first_but(0), Some(waiter(6, 100)));
        assert_eq!(waiters.take_all().len(), 2);
        assert!(waiters.is_empty() && waiters.late(u64::MAX).is_none());
    }
}
