//! Disks that rot or lie: bits turn over at rest or as they are read, writes go astray, a file is what it was before.
//!
//! ```text
//! may nothing be owed by this site alone? ──> damage ──> it holds nothing for sure ──> read through twice ──> it counts again
//! ```
use crate::cluster::faults::Backup;
use crate::cluster::{Cluster, lock};
use conveyor::disk::{Disk, Fault, OpenMode};
use conveyor::log::journal;
use conveyor::log::record::{HEADER_BYTES, RecordKind};
use std::collections::BTreeSet;
use std::time::Duration;

/// Seconds in which a healthy peer reads through all it holds, twice.
const READ_THROUGH_SECONDS_MAX: u64 = 400;

impl Cluster {
    /// Whether a site's disk may be damaged: what it holds others hold. From then on it holds nothing for sure.
    fn mistrust(&self, site: usize) -> bool {
        self.census();
        let mut model = lock(&self.model);
        let may_be = model.mistrust(site);
        if may_be {
            // It may forget what it took, and take it again.
            model.doubt(self.with_site(site, |site| site.peer));
        }
        may_be
    }

    /// Turns `count` bits over in one of a site's files whose name ends with `kind`.
    pub fn rot(&self, site: usize, kind: &str, count: usize) {
        let (paths, pick) = (self.files(site, kind), self.below(u64::MAX));
        if paths.is_empty() || !self.mistrust(site) {
            return;
        }
        let path = &paths[pick as usize % paths.len()];
        self.recorder.note(format_args!("{site} {count} bits rot in {path}"));
        self.with_site(site, |site| site.control.flip_bits(path, count).expect("the file is there"));
    }

    /// The same where nobody else may have what is in the file: the model forgives all that the site alone holds.
    pub fn rot_for_good(&self, site: usize, kind: &str, count: usize) {
        self.forget(site, |_, _| false, |_, _| false);
        self.rot(site, kind, count);
    }

    /// Turns a bit over in the newest batch that the journal of a site tells of. The model forgives all that the site alone
    /// holds.
    pub fn rot_newest_record(&self, site: usize) {
        self.forget(site, |_, _| false, |_, _| false);
        let newest = |path: &String| {
            let file = self.with_site(site, |site| site.control.disk().open(path, OpenMode::Read)).ok()?;
            let mut bytes = vec![0; file.len().ok()? as usize];
            file.read_exact_at(0, &mut bytes).ok()?;
            let found = journal::scan(&bytes.into())?;
            let records = found.records.iter().map(|record| record.header);
            Some((
                records.filter(|header| header.kind == RecordKind::Batch).map(|header| header.lsn).max()?,
                path.clone(),
            ))
        };
        let found = self.files(site, ".journal").iter().filter_map(newest).max();
        let (lsn, path) = found.expect("the journal tells of a batch");
        assert!(self.mistrust(site), "nothing is owed by it alone");
        let offset = lsn.offset() + HEADER_BYTES as u64 + 300;
        self.recorder.note(format_args!("{site} a bit rots in {path} at {offset}"));
        self.with_site(site, |site| site.control.flip_at(&path, offset, 3).expect("the file is there"));
    }

    /// One read in `count` comes back with a bit turned over.
    pub fn rot_on_read(&self, site: usize, count: u64) {
        if self.mistrust(site) {
            self.inject(site, "reads what is not there", Fault::rot_on_read().one_in(count));
        }
    }

    /// The `nth` write from now on lands elsewhere in its file.
    pub fn send_astray(&self, site: usize, nth: u64) {
        if self.mistrust(site) {
            self.inject(site, "will write to another place", Fault::misdirected_write().nth(nth));
        }
    }

    /// One file of a stopped site is what it was at the backup.
    pub fn roll_back(&self, site: usize, backup: &Backup) {
        let files: Vec<&str> = backup.image.files().collect();
        let pick = self.below(u64::MAX);
        if files.is_empty() || !self.mistrust(site) {
            return;
        }
        let path = files[pick as usize % files.len()];
        if self.with_site(site, |site| site.control.roll_back(path, &backup.image)).is_ok() {
            self.recorder.note(format_args!("{site} {path} goes back in time"));
        }
    }

    /// The files of a site whose names end with `kind`.
    pub fn files(&self, site: usize, kind: &str) -> Vec<String> {
        let image = self.with_site(site, |site| site.control.image());
        image.files().filter(|path| path.ends_with(kind)).map(str::to_owned).collect()
    }

    /// Waits until those of `sites` whose disks were damaged and do as they are told again have read all they hold. What
    /// they then say they hold they must have.
    pub async fn read_through(&self, sites: &BTreeSet<usize>) {
        let live = self.all_live();
        let unsure = live
            .into_iter()
            .filter(|(site, _)| sites.contains(site) && lock(&self.model).is_unsure(*site))
            .filter(|(site, _)| self.honest().contains(site));
        let before: Vec<_> = unsure.map(|(site, live)| (site, live.handle.scrub_rounds().0, live)).collect();
        for (site, rounds, live) in before {
            let mut seconds = 0;
            while live.handle.scrub_rounds().0 < rounds + 2 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                seconds += 1;
                assert!(seconds < READ_THROUGH_SECONDS_MAX, "P7: {site} does not read through what it holds");
            }
            self.recorder.note(format_args!("{site} was read through"));
            lock(&self.model).trust(site);
        }
    }
}
