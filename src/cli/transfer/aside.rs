//! What an export comes by that it cannot write, and exports of what is set aside.
use super::file::Writer;
use crate::base::TopicName;
use crate::cli::output::{note, show_entries};
use crate::client::{AsideItem, Client};
use crate::wire::outcome::{Gap, GapReason};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;

/// Writes what is set aside of a topic at the peer asked.
pub(super) async fn write(topic: &TopicName, client: &Client, file: BufWriter<File>) -> Result<Written> {
    let mut writer = Writer::begin(file, client.about().cluster, topic)?;
    let mut aside = client.read_aside(topic).await?;
    let (mut known, mut written) = (BTreeSet::new(), Written::default());
    while let Some(item) = aside.next().await? {
        match item {
            AsideItem::Batch { certificate, batch, from } => {
                if known.insert(batch.statement().log.peer) {
                    writer.certificate(&certificate)?;
                }
                writer.aside(&batch, from)?;
            }
            AsideItem::Gap(gap) => {
                note(format!("damaged: {} of run {}", show_entries(gap.from.0, gap.until.0), gap.run));
                written.count(&gap);
            }
        }
    }
    written.end(writer)
}

/// What an export wrote, and how many entries it came by that it could not write, by what became of them.
#[derive(Default)]
pub(super) struct Written {
    pub(super) batches: u64,
    pub(super) entries: u64,
    pub(super) trimmed: u64,
    pub(super) lost: u64,
    pub(super) damaged: u64,
}

impl Written {
    /// Ends the file.
    pub(super) fn end(self, writer: Writer<BufWriter<File>>) -> Result<Self> {
        let (file, batches, entries) = writer.end()?;
        file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        Ok(Self { batches, entries, ..self })
    }

    pub(super) fn count(&mut self, gap: &Gap) {
        let count = match gap.reason {
            GapReason::Trimmed => &mut self.trimmed,
            GapReason::Lost => &mut self.lost,
            GapReason::Damaged => &mut self.damaged,
        };
        *count += gap.until.since(gap.from);
    }
}
