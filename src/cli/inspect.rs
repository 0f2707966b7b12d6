//! `conveyor inspect`: the records of one file, as docs/format.md draws them.
use crate::base::{Batch, Fork, Head, Seq};
use crate::cli::exit::{Exit, failure};
use crate::cli::output::Out;
use crate::cli::verify::log_of;
use crate::cli::when::show_time;
use crate::disk::{Disk as _, DiskFile, FileDisk, OpenMode};
use crate::log::journal::{self, FoundRecord};
use crate::log::record::RecordKind;
use crate::log::segment::{self, Walk, decode_index, read_block};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::{Args, ValueHint};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show the records of one file of a data directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor inspect ~/.local/share/conveyor/journal/0000.journal
  conveyor inspect topics/greetings/0123456789abcdef-00000000.segment -o json

Takes segments, their indexes, and files of the journal. `entries` counts the
last one in. Nothing is changed; a peer may be running.")]
pub struct Inspect {
    /// The file
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl Inspect {
    /// Prints a line for each record.
    pub fn run(self, out: &mut Out) -> Result<()> {
        let named = || self.file.display().to_string();
        let missing = || failure(Exit::NotFound, format!("{} is no file", named()));
        let path = std::path::absolute(&self.file)?;
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(missing());
        };
        if !path.is_file() {
            return Err(missing());
        }
        let file =
            FileDisk::open(dir).and_then(|disk| disk.open(name, OpenMode::Read)).with_context(named)?;
        match name.rsplit_once('.').map_or("", |(_, end)| end) {
            "segment" => segment(&*file, out),
            "journal" | "damaged" => journal(&*file, out),
            "index" => index(&*file, out),
            _ => Err(failure(Exit::Usage, format!("{} is no .segment, .journal or .index", named()))),
        }
    }
}

/// One record: a line of `name=value` for people, an object for programs.
fn show(out: &mut Out, record: Value) -> Result<()> {
    out.show(&record, |record| {
        let fields = record.as_object().into_iter().flatten();
        let words = fields.map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        });
        words.collect::<Vec<_>>().join(" ")
    })
}

fn segment(file: &dyn DiskFile, out: &mut Out) -> Result<()> {
    let length = file.len()?;
    let Some(log) = log_of(file, length)? else {
        return Err(failure(Exit::Damaged, "no batch could be found in it"));
    };
    let mut walk = Walk::new(file, 0, length);
    while let Some((offset, header)) = walk.next(&log)? {
        let bytes = read_block(file, offset, header.batch_bytes())?;
        let batch = Batch::parse(bytes);
        let body = match &batch {
            Ok(batch) => batch.check_body().map_or_else(|error| error.to_string(), |()| "good".to_owned()),
            Err(error) => error.to_string(),
        };
        let mut record = json!({ "at": offset, "what": "batch", "body": body });
        statement(&mut record, &header.statement);
        record["bytes"] = header.batch_bytes().into();
        record["chunks"] = header.envelope.chunk_count.into();
        show(out, record)?;
    }
    for (from, until) in walk.holes {
        show(out, json!({ "at": from, "what": "nothing that can be read", "until": until }))?;
    }
    Ok(())
}

fn statement(record: &mut Value, s: &crate::base::Statement) {
    record["topic"] = s.log.topic.to_string().into();
    record["peer"] = s.log.peer.short().into();
    record["run"] = s.run.to_string().into();
    if let Some(signed) = &s.signed {
        record["branch_of"] = signed.run.to_string().into();
    }
    if s.opens_run {
        record["parent"] = s.parent.to_string().into();
    }
    record["entries"] = range(s.first_seq, s.until()).into();
    record["time"] = show_time(s.first_time.ms()).into();
    record["raw_bytes"] = s.raw_bytes.into();
}

fn range(from: Seq, until: Seq) -> String {
    match until.since(from) {
        0 => "none".to_owned(),
        1 => from.to_string(),
        _ => format!("{from}-{}", until.0 - 1),
    }
}

fn journal(file: &dyn DiskFile, out: &mut Out) -> Result<()> {
    let bytes = read_block(file, 0, file.len()? as usize)?;
    let Some(found) = journal::scan(&bytes) else {
        return show(out, json!({ "at": 0, "what": "nothing: the file was never used" }));
    };
    for record in &found.records {
        let header = &record.header;
        let mut shown = json!({
            "at": header.lsn.offset(),
            "what": format!("{:?}", header.kind).to_lowercase(),
            "journal": header.lsn.number(),
            "synced_until": format!("{:?}", header.synced_until),
            "payload_bytes": header.payload_bytes,
        });
        describe(&mut shown, record);
        show(out, shown)?;
    }
    for (at, next) in &found.holes {
        let what = if next.is_some() { "nothing that can be read" } else { "the end" };
        show(out, json!({ "at": at, "what": what }))?;
    }
    Ok(())
}

/// Adds what the payload says, by kind.
fn describe(shown: &mut Value, record: &FoundRecord) {
    let Some(payload) = &record.payload else {
        shown["payload"] = "damaged".into();
        return;
    };
    match record.header.kind {
        RecordKind::Batch => match Batch::parse(Bytes::clone(payload)) {
            Ok(batch) => statement(shown, batch.statement()),
            Err(error) => shown["payload"] = error.to_string().into(),
        },
        RecordKind::Bulk => {
            let header = payload.first_chunk().map(crate::base::batch::BatchHeader::parse);
            if let Some(Ok(header)) = header {
                statement(shown, &header.statement);
            }
        }
        RecordKind::Head => {
            if let Some(Ok(head)) = payload.first_chunk().map(Head::decode) {
                shown["run"] = head.run.to_string().into();
                shown["entries"] = range(head.start, head.until).into();
            }
        }
        RecordKind::Fork => {
            if let Some(Ok(fork)) = payload.first_chunk().map(Fork::decode) {
                shown["run"] = fork.run.to_string().into();
                shown["from"] = fork.from().0.into();
                shown["branches"] = fork.branches().map(|branch| branch.to_string()).to_vec().into();
            }
        }
        RecordKind::Topic => {
            shown["name"] = String::from_utf8_lossy(payload.get(16..).unwrap_or_default()).into()
        }
        _ => (),
    }
    if matches!(record.header.kind, RecordKind::Batch | RecordKind::Bulk) {
        shown["goes_to"] = format!("segment {} byte {}", record.header.segment, record.header.offset).into();
    }
}

fn index(file: &dyn DiskFile, out: &mut Out) -> Result<()> {
    let bytes = segment::read_block(file, 0, file.len()? as usize)?;
    let Some(index) = decode_index(&bytes) else {
        return Err(failure(Exit::Damaged, "the index is damaged; it is made again from its segment"));
    };
    for mark in &index.marks {
        let (run, time) = (mark.run.to_string(), show_time(mark.time.ms()));
        show(
            out,
            json!({ "what": "mark", "run": run, "seq": mark.seq.0, "time": time, "offset": mark.offset }),
        )?;
    }
    show(out, json!({ "what": "end", "until": index.until }))
}
