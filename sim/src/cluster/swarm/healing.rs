//! Faults end, first for some of the peers and then for all; what must hold among those is checked each time.
//!
//! ```text
//! the core heals, the rest stays crashed or cut off ──> every peer of the core takes an append ──> quiet ──> check
//! everything heals ──> every peer takes an append ──> quiet ──> check
//! ```
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::membership::Manners;
use crate::cluster::network::Weather;
use crate::cluster::planted::Plant;
use crate::cluster::swarm::Run;
use crate::cluster::{JOBS, check, lock};
use std::collections::BTreeSet;
use std::time::Duration;

/// Milliseconds that a healthy peer may take to answer an append.
const ANSWER_MS_MAX: u64 = 20_000;

impl Run {
    /// In part of the seeds some peers are healthy again before the others: among them everything must hold, whatever
    /// the rest does.
    pub(super) async fn heal_core(&mut self) {
        let count = self.cluster.site_count();
        let honest = self.cluster.honest();
        let core: BTreeSet<usize> = honest.into_iter().filter(|_| self.random.one_in(2)).collect();
        let core = self.cluster.network.connected(core);
        if !self.heals_core || core.len() < 2 || core.len() == count || self.plant == Some(Plant::NeverHeals)
        {
            return;
        }
        self.cluster.recorder.note(format_args!("the core heals: {core:?}"));
        self.clients.end();
        let is_cut = |a: usize, b: usize| core.contains(&a) != core.contains(&b);
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        self.cluster.network.block(pairs.filter(|(a, b)| is_cut(*a, *b)).collect());
        self.cluster.network.set_weather(Weather::FAIR);
        self.cluster.network.set_manners(Manners::CALM);
        let mut claimed = Vec::new();
        for site in (0..count).filter(|site| !core.contains(site)) {
            // Some are down for as long as this lasts; the others go on with whatever is wrong with them.
            if self.random.one_in(2) && self.cluster.claim(site) {
                self.cluster.crash(site, Power::Lost).await;
                claimed.push(site);
            }
        }
        self.release(&core).await;
        self.converge(&core).await;
        self.cluster.read_through(&core).await;
        self.take_appends(&core).await;
        tokio::time::sleep(check::converged_within()).await;
        check::check_among(&self.cluster, &core);
        for site in claimed {
            self.cluster.calm(site);
            self.cluster.release(site).await;
        }
        self.begin_clients();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// All faults end.
    pub(super) async fn heal(&mut self) {
        self.cluster.recorder.note(format_args!("everything heals"));
        if self.plant != Some(Plant::NeverHeals) {
            self.cluster.network.block([].into());
        }
        self.cluster.network.set_weather(Weather::FAIR);
        self.cluster.network.set_manners(Manners::CALM);
        let all = self.all_sites();
        self.release(&all).await;
        self.clients.end();
        self.converge(&all).await;
        self.begin_clients();
        self.cluster.read_through(&all).await;
    }

    /// From the moment on in which the last of `sites` is up and all ways between them are open, they have so long to hold the
    /// same. Whose disk was damaged has to read through it first: of those nothing is asked here.
    async fn converge(&self, sites: &BTreeSet<usize>) {
        if !self.cluster.setup.converges || self.plant == Some(Plant::NeverHeals) {
            return;
        }
        self.cluster.census();
        let honest = self.cluster.honest();
        let is_sound = |site: &usize| honest.contains(site) && !lock(&self.cluster.model).is_unsure(*site);
        let sound: BTreeSet<usize> = sites.iter().copied().filter(is_sound).collect();
        let before = lock(&self.cluster.model).held_by(&sound);
        self.cluster.recorder.note(format_args!("{sound:?} have {} entries to share", before.len()));
        tokio::time::sleep(check::converged_within()).await;
        match sound == *sites {
            true => check::check_among(&self.cluster, &sound),
            // Whoever is not may still come out with what nobody heard of.
            false => check::check_spread(&self.cluster, &sound, &before),
        }
    }

    fn all_sites(&self) -> BTreeSet<usize> {
        (0..self.cluster.site_count()).collect()
    }

    /// Sites have sound disks, and processes over them.
    async fn release(&self, sites: &BTreeSet<usize>) {
        for site in sites {
            // Whoever has it brings it back within its time.
            while !self.cluster.claim(*site) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.cluster.calm(*site);
            self.cluster.release(*site).await;
        }
    }

    /// Every peer takes an append; then the work ends, and what is under way may arrive.
    pub(super) async fn live(&mut self) {
        self.take_appends(&self.all_sites()).await;
        self.clients.end();
        self.cluster.census();
        let before = lock(&self.cluster.model).owed().map(|(id, _)| *id).collect();
        tokio::time::sleep(check::converged_within()).await;
        let (honest, all) = (self.cluster.honest(), self.all_sites());
        if honest != all && self.cluster.setup.converges {
            // Whoever lies may come out with what it held back at any time, until nobody hears it any more.
            check::check_spread(&self.cluster, &honest, &before);
            let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
            let is_heard = |(a, b): &(usize, usize)| honest.contains(a) && honest.contains(b);
            self.cluster.network.block(pairs.filter(|pair| !is_heard(pair)).collect());
            tokio::time::sleep(check::converged_within()).await;
        }
    }

    async fn take_appends(&self, sites: &BTreeSet<usize>) {
        for site in sites {
            let habits = Habits {
                sites: vec![*site],
                topics: vec![JOBS],
                pause_ms: 0,
                entries_max: 1,
                retries_max: 100,
                wants_copies: false,
            };
            let mut client = Client::new(self.cluster.clone(), habits);
            let append = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), client.append());
            assert_eq!(append.await, Ok(true), "{site} is healthy and takes no appends");
        }
    }

    pub(super) fn check(&self) {
        check::check_all(&self.cluster);
        for (sites, topic, given) in &self.followers {
            let honest = self.cluster.honest();
            let is_read = |site: &&usize| self.cluster.setup.converges || sites.contains(site);
            let sites = honest.iter().filter(is_read);
            sites.for_each(|site| check::check_followed(&self.cluster, *site, *topic, given));
        }
        let owed = lock(&self.cluster.model).owed_count();
        self.cluster.recorder.note(format_args!("safe and live: {owed} entries owed"));
    }

    /// Once more from the disks alone.
    pub(super) async fn lose_power(&self) {
        for site in 0..self.cluster.site_count() {
            self.cluster.crash(site, Power::Lost).await;
        }
        self.cluster.start_all();
        tokio::time::sleep(Duration::from_millis(ANSWER_MS_MAX)).await;
        check::check_all(&self.cluster);
    }
}
