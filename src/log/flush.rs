//! The flusher: brings batches from memory into their segments, writes checkpoints, removes what was trimmed.
//!
//! It runs in the maintenance lane, out of the sync's way. Everything it does may be done again after a crash: a flush
//! writes the same bytes to the same place, and a journal file is given up only when a synced checkpoint covers it.
use crate::base::LogId;
use crate::log::checkpoint;
use crate::log::journal::{SPARE_FILES, Slots, prewrite};
use crate::log::place;
use crate::log::segment;
use crate::log::store::{FlushItem, Store, lock};
use crate::log::writer::Rotation;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Bytes flushed between two looks at what else waits.
const BUNCH_BYTES: usize = 4 << 20;

/// Flushes what waits now, oldest first. After an error the rest waits for the next call; on a full disk that is when
/// there is room again.
pub fn flush(store: &Store) -> io::Result<()> {
    let mut bytes_left = store.unflushed_bytes();
    while bytes_left > 0 {
        let mut items = store.next_flush(BUNCH_BYTES);
        if items.is_empty() {
            break;
        }
        let bytes: usize = items.iter().map(|item| item.batch.bytes().len()).sum();
        bytes_left = bytes_left.saturating_sub(bytes);
        items.sort_by_key(|item| (item.log.id, item.place));
        for (index, group) in neighbours(&items).into_iter().enumerate() {
            if let Err(error) = flush_group(store, group) {
                let done: usize = neighbours(&items).iter().take(index).map(|group| group.len()).sum();
                store.put_back(items.split_off(done));
                return Err(error);
            }
        }
    }
    store.evict();
    Ok(())
}

/// Runs of items that lie one behind the other in one segment.
fn neighbours(items: &[FlushItem]) -> Vec<&[FlushItem]> {
    let is_next = |a: &FlushItem, b: &FlushItem| {
        a.log.id == b.log.id
            && a.place.segment == b.place.segment
            && a.place.offset + a.batch.bytes().len() as u64 == b.place.offset
    };
    items.chunk_by(is_next).collect()
}

fn flush_group(store: &Store, group: &[FlushItem]) -> io::Result<()> {
    let (log, first) = (&group[0].log, group[0].place);
    // What was trimmed meanwhile, with its whole segment, is not brought back.
    let is_wanted = {
        let state = log.look();
        state.next_place.is_some_and(|next| next.segment == first.segment) || state.uses(first.segment)
    };
    if is_wanted {
        let parts: Vec<&[u8]> = group.iter().map(|item| item.batch.bytes().as_ref()).collect();
        store.write_segment(log, first, &parts, false)?;
    }
    group.iter().for_each(|item| store.flushed(item));
    Ok(())
}

/// Flushes and syncs everything that a full journal file holds, writes the checkpoint that covers it, and makes the
/// file free again. `engine` is what the engine asked to be remembered.
pub fn checkpoint(
    store: &Store,
    slots: &Mutex<Slots>,
    rotation: Rotation,
    engine: checkpoint::Pieces<'_>,
) -> io::Result<()> {
    flush(store)?;
    sync_segments(store)?;
    store.must_be_sound(&Ok(()))?;
    checkpoint::write(store, rotation.snapshot, engine)?;
    store.must_be_sound(&Ok(()))?;
    store.count(&store.counters.checkpoints, 1);
    let aside = lock(slots).release(rotation.number);
    for (number, slot) in aside {
        store.disk.rename(&place::journal_path(slot), &place::damaged_journal_path(number))?;
        store.disk.sync_dir(place::JOURNAL_DIR)?;
    }
    prepare(store, slots)?;
    for (id, segment) in rotation.covered {
        if let Some(log) = store.log(&id) {
            log.change().covered = segment;
            discard(store, &id)?;
        }
    }
    Ok(())
}

fn sync_segments(store: &Store) -> io::Result<()> {
    for (id, segment) in store.unsynced() {
        let Some(log) = store.log(&id) else { continue };
        store.sync_segment(&log, segment).map_err(not_waited_out)?;
        let is_full = {
            let state = log.look();
            state.uses(segment) && state.next_place.is_some_and(|next| next.segment > segment)
        };
        if is_full {
            save_index(store, &log, segment);
        }
    }
    Ok(())
}

/// A sync that failed, be it for want of room, leaves the file in a state that nobody knows: it is not tried again.
fn not_waited_out(error: io::Error) -> io::Error {
    io::Error::other(format!("syncing a segment: {error}"))
}

/// An index that cannot be written is no loss: it is made when it is needed.
fn save_index(store: &Store, log: &crate::log::store::Log, segment: u32) {
    let end = log.look().spans.iter().filter(|span| span.segment == segment).map(|span| span.end).max();
    if let Some(Err(error)) = end.map(|end| segment::save(store, log, segment, end)) {
        tracing::debug!(%error, "the index of a full segment was not written");
    }
}

/// Sees to it that the next journal files are there, prewritten.
pub fn prepare(store: &Store, slots: &Mutex<Slots>) -> io::Result<()> {
    loop {
        let slot = {
            let mut slots = lock(slots);
            if slots.free.len() >= SPARE_FILES {
                return Ok(());
            }
            let slot = slots.unused();
            // A full journal must not take it while zeros are written over it.
            slots.making.insert(slot);
            slot
        };
        let made = prewrite(&*store.disk, slot, store.config.journal_file_bytes);
        let mut slots = lock(slots);
        slots.making.remove(&slot);
        made?;
        slots.free.push(slot);
    }
}

/// Removes segments of `log` that lie wholly before its start and that a checkpoint knows of. The trim is durable
/// already; what is too new to go is looked at again when a checkpoint is written, and whether there is any of that is the
/// answer.
pub fn discard(store: &Store, id: &LogId) -> io::Result<bool> {
    let Some(log) = store.log(id) else { return Ok(false) };
    let (empty, waits) = {
        let mut state = log.change();
        (state.discard_trimmed(), state.has_trimmed_uncovered())
    };
    let mut is_removed = false;
    for segment in &empty {
        store.forget_segment(&log, *segment);
        for path in [place::segment_path(&log.dir, id, *segment), place::index_path(&log.dir, id, *segment)] {
            store.files.forget(&path);
            match store.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                removed => is_removed |= removed.is_ok(),
            }
        }
    }
    // Else they would be back after power loss, and nobody would know of them.
    if is_removed {
        store.disk.sync_dir(&log.dir)?;
    }
    Ok(waits)
}

/// Whether so much waits to be flushed that it should begin before the journal file is full.
pub fn is_due(store: &Store) -> bool {
    let unflushed_bytes = store.unflushed_bytes();
    unflushed_bytes > store.config.unflushed_bytes_max / 2 || (unflushed_bytes > 0 && store.keeps_too_much())
}

/// Counts damage that was found.
pub(crate) fn count_damage(store: &Store) {
    store.counters.damage_found.fetch_add(1, Ordering::Relaxed);
}
