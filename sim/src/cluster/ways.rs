//! Partitions and weather, drawn.
use crate::cluster::Cluster;
use crate::cluster::life::spawn;
use crate::cluster::membership::Manners;
use crate::cluster::network::Weather;
use crate::random::Random;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Ways that are closed for a while.
#[derive(Debug, Clone)]
pub struct Ways {
    /// What kind of partition it is.
    pub kind: &'static str,
    /// From which site to which.
    pub closed: BTreeSet<(usize, usize)>,
    /// Milliseconds until they are open again.
    pub closed_ms: u64,
}

impl Ways {
    /// A partition among so many sites.
    pub fn draw(random: &mut Random, count: usize) -> Self {
        let side: Vec<bool> = (0..count).map(|_| random.one_in(2)).collect();
        let one = random.below(count as u64) as usize;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|(a, b)| a != b);
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let is_clogged = random.one_in(4);
        let (kind, closed): (_, Vec<(usize, usize)>) = match random.below(6) {
            0 => ("one way", pairs.into_iter().filter(|(a, _)| *a == one).collect()),
            1 => ("one alone", pairs.into_iter().filter(|(a, b)| *a == one || *b == one).collect()),
            2 => ("two halves", pairs.into_iter().filter(|(a, b)| side[*a] != side[*b]).collect()),
            3 => {
                let is_bridge = |site: usize| site == one;
                let is_cut = |a: usize, b: usize| side[a] != side[b] && !is_bridge(a) && !is_bridge(b);
                ("two halves and a bridge", pairs.into_iter().filter(|(a, b)| is_cut(*a, *b)).collect())
            }
            4 => ("some ways", pairs.into_iter().filter(|_| random.one_in(3)).collect()),
            _ => ("everyone alone", pairs),
        };
        let closed_ms = if is_clogged { random.below(1_000) } else { random.below(30_000) };
        Self { kind, closed: closed.into_iter().collect(), closed_ms }
    }

    /// Closes these ways and opens all others, for its time.
    pub fn close(self, cluster: &Arc<Cluster>) {
        let (kind, count) = (self.kind, self.closed.len());
        cluster.recorder.note(format_args!("{kind}: {count} ways are closed for {} ms", self.closed_ms));
        let number = cluster.network.block(self.closed);
        let (again, closed_ms) = (cluster.clone(), self.closed_ms);
        spawn(&cluster.recorder, async move {
            tokio::time::sleep(Duration::from_millis(closed_ms)).await;
            if again.network.open_again(number) {
                again.recorder.note(format_args!("all ways are open"));
            }
        });
    }
}

/// How messages fare for a while.
pub fn draw_weather(random: &mut Random) -> Weather {
    if random.one_in(4) {
        return Weather::FAIR;
    }
    let mut rate = |one_in: u64, max: u64| if random.one_in(one_in) { random.below(max) } else { 0 };
    let (lost, doubled, swapped, delayed) =
        (rate(3, 50_000), rate(3, 50_000), rate(3, 50_000), rate(3, 10_000));
    Weather {
        latency_ms: random.below(200),
        jitter_ms: random.below(200),
        bytes_per_s: *random.pick(&[20 << 10, 200 << 10, 50 << 20]),
        lost,
        doubled,
        swapped,
        delayed,
    }
}

/// How membership lags and errs for a while.
pub fn draw_manners(random: &mut Random) -> Manners {
    if random.one_in(4) {
        return Manners::CALM;
    }
    Manners {
        up_ms_max: random.between(100, 5_000),
        down_ms: (100, random.between(200, 10_000)),
        spurious: random.below(20_000),
        one_sided: random.below(20_000),
    }
}
