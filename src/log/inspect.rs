//! A file of a store in words: each batch, record or mark where it lies, as docs/format.md draws them.
use crate::base::Batch;
use crate::disk::{Disk, OpenMode};
use crate::log::journal;
use crate::log::rebuild::log_in;
use crate::log::record::RecordKind;
use crate::log::segment::{self, Walk, read_block};
use serde::Serialize;
use std::io;

/// One thing in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it is.
    pub kind: String,
    /// What it says, as names and values.
    pub fields: Vec<(&'static str, String)>,
}

/// Describes the file at `path`, told by its name; calls `each` for everything in it until that answers `false`.
/// With `entries`, the entries of each batch follow it.
pub fn inspect(
    disk: &dyn Disk,
    path: &str,
    entries: bool,
    each: &mut dyn FnMut(Line) -> bool,
) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Read)?;
    let end = file.len()?;
    let whole = || read_block(&*file, 0, end as usize);
    if path.ends_with(".segment") {
        let Some(log) = log_in(&*file, end)? else { return Ok(()) };
        let mut walk = Walk::new(&*file, 0, end);
        while let Some((offset, header)) = walk.next(&log)? {
            let batch = Batch::parse(read_block(&*file, offset, header.batch_bytes())?);
            let Ok(batch) = batch else { continue };
            if !batch_lines(offset, &batch, entries, each) {
                return Ok(());
            }
        }
        for (from, until) in walk.holes {
            each(Line { offset: from, bytes: until - from, kind: "no batch".into(), fields: vec![] });
        }
        Ok(())
    } else if path.ends_with(".journal") || path.ends_with(".damaged") {
        journal_lines(&whole()?, entries, each);
        Ok(())
    } else if path.ends_with(".index") {
        index_lines(&whole()?, each)
    } else {
        let message = "only .segment, .journal, .damaged and .index files can be inspected";
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

fn batch_lines(offset: u64, batch: &Batch, entries: bool, each: &mut dyn FnMut(Line) -> bool) -> bool {
    let s = batch.statement();
    let check = |result: Result<(), crate::base::BatchError>| match result {
        Ok(()) => "good".to_owned(),
        Err(error) => error.to_string(),
    };
    let fields = vec![
        ("peer", s.log.peer.to_string()),
        ("run", s.run.to_string()),
        ("parent", s.parent.to_string()),
        ("opens_run", s.opens_run.to_string()),
        ("first_seq", s.first_seq.to_string()),
        ("entry_count", s.entry_count.to_string()),
        ("first_time_ms", s.first_time.ms().to_string()),
        ("raw_bytes", s.raw_bytes.to_string()),
        ("previous", s.previous.to_string()),
        ("root", s.root.to_string()),
        ("body", check(batch.check_body())),
        ("digests", check(batch.check_entries())),
    ];
    let bytes = batch.bytes().len() as u64;
    if !each(Line { offset, bytes, kind: "batch".into(), fields }) {
        return false;
    }
    let mut goes_on = true;
    if entries {
        // A damaged body was told above; what can be read of it is shown.
        let _ = batch.for_each_entry(|id, time, view| {
            let fields = vec![
                ("seq", id.seq.to_string()),
                ("time_ms", time.ms().to_string()),
                ("kind", format!("{:?}", view.kind).to_lowercase()),
                ("key", String::from_utf8_lossy(view.key).into_owned()),
                ("payload_bytes", view.payload.len().to_string()),
            ];
            goes_on = each(Line { offset, bytes: view.raw.len() as u64, kind: "entry".into(), fields });
            goes_on
        });
    }
    goes_on
}

fn journal_lines(bytes: &bytes::Bytes, entries: bool, each: &mut dyn FnMut(Line) -> bool) {
    let Some(found) = journal::scan(bytes) else { return };
    for record in &found.records {
        let header = record.header;
        let fields = vec![
            ("journal", header.lsn.number().to_string()),
            ("synced_until", format!("{:?}", header.synced_until)),
            ("payload_bytes", header.payload_bytes.to_string()),
            ("segment", header.segment.to_string()),
            ("segment_offset", header.offset.to_string()),
            ("payload", if record.payload.is_some() { "good" } else { "damaged" }.to_owned()),
        ];
        let kind = format!("{:?}", header.kind).to_lowercase();
        let line = Line { offset: header.lsn.offset(), bytes: header.record_bytes(), kind, fields };
        if !each(line) {
            return;
        }
        let batch = record.payload.clone().filter(|_| header.kind == RecordKind::Batch).map(Batch::parse);
        if let Some(Ok(batch)) = batch
            && !batch_lines(header.lsn.offset(), &batch, entries, each)
        {
            return;
        }
    }
}

fn index_lines(bytes: &[u8], each: &mut dyn FnMut(Line) -> bool) -> io::Result<()> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "the index is damaged; it is made again when needed");
    let index = segment::decode_index(bytes).ok_or_else(damaged)?;
    for mark in index.marks {
        let fields = vec![
            ("run", mark.run.to_string()),
            ("seq", mark.seq.to_string()),
            ("time_ms", mark.time.ms().to_string()),
        ];
        if !each(Line { offset: mark.offset, bytes: 0, kind: "mark".into(), fields }) {
            break;
        }
    }
    Ok(())
}
