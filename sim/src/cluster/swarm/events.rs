//! What happens in a seed while there is work: each event is a draw of faults, one of them at one site or between all.
use crate::cluster::faults::Power;
use crate::cluster::life::spawn;
use crate::cluster::swarm::{Run, SITES_MAX};
use crate::cluster::ways::{self, Ways};
use crate::cluster::{DRAFTS, lock};
use conveyor::disk::Fault;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;

impl Run {
    pub(super) async fn event(&mut self, number: u64) {
        let site = self.random.below(self.cluster.site_count() as u64) as usize;
        let s = &self.swarm;
        let rates = [
            s.crash,
            s.stop,
            s.freeze,
            s.doom,
            s.wipe,
            s.backup,
            s.copy,
            s.full,
            s.error,
            s.slow,
            s.skew,
            s.ways,
            s.weather,
            s.membership,
            s.delete,
            s.rot,
            s.read_rot,
            s.astray,
            s.back,
        ];
        let happens: Vec<usize> = (0..rates.len()).filter(|kind| self.random.chance(rates[*kind])).collect();
        for kind in happens {
            self.happen(kind, site).await;
        }
        if self.apart.chance(self.swarm.resume) || self.swarm.resumes_at == Some(number) {
            self.resume(site).await;
        }
    }

    /// A machine is resumed from a snapshot while it goes on itself: two processes write one run, most often one that they were
    /// in the middle of.
    async fn resume(&mut self, site: usize) {
        let is_sound = !self.cluster.with_site(site, |site| site.may_fail());
        if self.cluster.site_count() < SITES_MAX && self.cluster.claim(site) {
            self.cluster.crash(site, Power::Stays).await;
            // What a broken disk lost of a run, no snapshot goes on from.
            match is_sound && !lock(&self.cluster.model).is_unsure(site) && !self.apart.one_in(4) {
                true => self.cluster.resume_amid(site, self.apart.one_in(2)),
                false => self.cluster.resume(site),
            }
            let copied = self.cluster.copy(site, &self.cluster.backup(site));
            self.cluster.release(site).await;
            self.cluster.recover(copied).await;
            self.begin_client_at(copied);
        }
    }

    async fn happen(&mut self, kind: usize, site: usize) {
        match kind {
            0 | 1 | 2 | 4 => self.away(kind, site),
            3 => self.cluster.doom(site, self.random.below(40)),
            5 => self.back_up(site).await,
            6 => self.copy(site).await,
            7 => self.fill(site),
            8 => self.inject(site),
            9 => {
                let cost = Duration::from_millis(self.random.between(5, 500));
                self.cluster.inject(site, "syncs slowly", Fault::slow_sync(cost));
            }
            10 => self.skew(site),
            11 => {
                let ways = Ways::draw(&mut self.random, self.cluster.site_count());
                ways.close(&self.cluster);
            }
            12 => self.cluster.network.set_weather(ways::draw_weather(&mut self.random)),
            13 => self.cluster.network.set_manners(ways::draw_manners(&mut self.random)),
            14 => {
                let cluster = self.cluster.clone();
                spawn(&self.cluster.recorder, async move { cluster.delete(site, DRAFTS).await });
            }
            15 => {
                let kind = *self.random.pick(&[".segment", ".segment", ".journal", "checkpoint"]);
                self.cluster.rot(site, kind, self.random.between(1, 4) as usize);
            }
            16 => self.cluster.rot_on_read(site, self.random.between(2, 50)),
            17 => self.cluster.send_astray(site, self.random.between(1, 10)),
            _ => self.roll_back(site).await,
        }
    }

    /// Takes a site away for a while.
    fn away(&mut self, kind: usize, site: usize) {
        if !self.cluster.claim(site) {
            return;
        }
        let away_ms = if self.random.one_in(3) { 0 } else { self.random.below(15_000) };
        let power = *self.random.pick(&[Power::Stays, Power::Lost]);
        let cluster = self.cluster.clone();
        let task = async move {
            match kind {
                0 => cluster.crash(site, power).await,
                1 => {
                    cluster.start_twice(site);
                    cluster.stop(site).await;
                }
                2 => cluster.freeze(site, true),
                _ => {
                    cluster.crash(site, Power::Lost).await;
                    cluster.wipe(site);
                }
            }
            tokio::time::sleep(Duration::from_millis(away_ms)).await;
            cluster.freeze(site, false);
            cluster.release(site).await;
        };
        spawn(&self.cluster.recorder, task);
    }

    async fn back_up(&mut self, site: usize) {
        let of_site = self.backups.iter().position(|(other, _)| *other == site);
        match of_site.filter(|_| self.random.one_in(2) && self.cluster.claim(site)) {
            Some(at) => {
                let (_, backup) = self.backups.swap_remove(at);
                self.cluster.crash(site, Power::Lost).await;
                self.cluster.restore(site, &backup);
                self.cluster.release(site).await;
            }
            None => self.backups.push((site, self.cluster.backup(site))),
        }
    }

    /// One file of a site goes back to what it was.
    async fn roll_back(&mut self, site: usize) {
        let of_site = self.backups.iter().position(|(other, _)| *other == site);
        match of_site.filter(|_| self.cluster.claim(site)) {
            Some(at) => {
                self.cluster.crash(site, Power::Lost).await;
                self.cluster.roll_back(site, &self.backups[at].1);
                self.cluster.release(site).await;
            }
            None => self.backups.push((site, self.cluster.backup(site))),
        }
    }

    async fn copy(&mut self, site: usize) {
        if self.cluster.site_count() < SITES_MAX {
            let copied = self.cluster.copy(site, &self.cluster.backup(site));
            self.cluster.recover(copied).await;
            self.begin_client_at(copied);
        }
    }

    fn fill(&mut self, site: usize) {
        let left = self.random.below(2) * 600_000 + self.random.below(8) * 8192;
        self.cluster.fill(site, left);
        let (cluster, full_ms) = (self.cluster.clone(), self.random.below(20_000));
        spawn(&self.cluster.recorder, async move {
            tokio::time::sleep(Duration::from_millis(full_ms)).await;
            cluster.make_room(site);
        });
    }

    fn inject(&mut self, site: usize) {
        let nth = self.random.between(1, 20);
        let (what, fault) = match self.random.below(6) {
            0 => ("will fail a sync", Fault::sync_error().nth(nth)),
            1 => ("will fail a write", Fault::write_error().nth(nth)),
            2 => ("will fail to open a file", Fault::open_error().nth(nth)),
            3 => ("will fail to sync a directory", Fault::sync_dir_error().nth(nth)),
            _ => ("fails reads", Fault::read_error().one_in(nth)),
        };
        self.cluster.inject(site, what, fault);
    }

    fn skew(&mut self, site: usize) {
        let skew_ms = match self.random.below(8) {
            // Each in its own way: which of several clocks that show the same is right nobody can say.
            0 => (366 + site as i64) * DAY_MS,
            1 => -(1 + site as i64) * DAY_MS,
            2..5 => self.random.below(120_000) as i64 - 60_000,
            _ => self.random.below(2_000) as i64 - 1_000,
        };
        self.cluster.skew(site, skew_ms);
    }
}
