//! In part of the seeds consumers share what is appended, crash, stall and give back, while all else goes on.
use crate::cluster::Cluster;
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::swarm::Swarm;
use crate::cluster::worker::{Habits, Work, Worker, check_worked, create};
use crate::random::Random;
use conveyor::runtime::Spawn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Consumers of one group.
pub(super) struct Workers {
    random: Random,
    /// Whether there are any.
    is_there: bool,
    /// Whether every acknowledgement that was confirmed stays on a disk.
    acks_hold: bool,
    work: Arc<Mutex<Work>>,
}

impl Workers {
    /// In one of six seeds. Where runs fork, an entry comes under another name later; and of who lies nothing is promised.
    pub(super) fn draw(mut random: Random, swarm: &Swarm, lies: bool) -> Self {
        let is_there = random.one_in(6) && swarm.resume == 0 && !lies;
        let losses =
            [swarm.wipe, swarm.backup, swarm.copy, swarm.rot, swarm.read_rot, swarm.astray, swarm.back];
        let acks_hold = losses.iter().all(|rate| *rate == 0);
        Self { random, is_there, acks_hold, work: Arc::default() }
    }

    /// They begin to work.
    pub(super) fn begin(&mut self, cluster: &Arc<Cluster>, life: &Arc<Life>) {
        if !self.is_there {
            return;
        }
        let count = cluster.site_count();
        for _ in 0..self.random.between(1, 4) {
            let site = self.random.below(count as u64) as usize;
            let sites = if self.random.one_in(2) { vec![site] } else { (0..count).collect() };
            let (cluster, work) = (cluster.clone(), self.work.clone());
            LifeSpawn(life.clone()).spawn(Box::pin(async move {
                while !create(&cluster, site).await {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Worker::new(cluster, Habits::bad(&sites), work).work().await;
            }));
        }
    }

    /// What must hold once all peers are alike.
    pub(super) async fn check(&self, cluster: &Arc<Cluster>) {
        if self.is_there {
            assert!(create(cluster, 0).await, "a healthy peer makes a group");
            tokio::time::sleep(crate::cluster::check::converged_within()).await;
            check_worked(cluster, &self.work, self.acks_hold).await;
        }
    }
}
