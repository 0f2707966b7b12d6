//! Many peers on a fair network, each with a client that appends once a second: how fast does simulated time go?
use crate::cluster::client::{Client, Habits};
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::swarm::CONVERGES;
use crate::cluster::{JOBS, Report, Setup, check};
use conveyor::runtime::Spawn;
use std::time::Duration;

/// Runs so many peers for so many simulated seconds.
pub fn run(peer_count: usize, seconds: u64) -> Report {
    let setup = Setup { is_detailed: false, converges: CONVERGES, ..Setup::peers(peer_count) };
    super::run(1, setup, move |cluster| async move {
        cluster.start_all();
        let clients = Life::new(cluster.recorder.clone());
        for site in 0..peer_count {
            let (sites, topics) = (vec![site], vec![JOBS]);
            let habits = Habits {
                sites,
                topics,
                pause_ms: 1_000,
                entries_max: 1,
                retries_max: 0,
                wants_copies: false,
            };
            let work = Client::new(cluster.clone(), habits).work();
            LifeSpawn(clients.clone()).spawn(Box::pin(work));
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        clients.end();
        tokio::time::sleep(Duration::from_secs(10)).await;
        check::check_all(&cluster);
        cluster.recorder.note(format_args!("{:?}", cluster.network.counts()));
    })
}
