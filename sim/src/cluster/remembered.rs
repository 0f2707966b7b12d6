//! P9: what a store remembers of others has its bounds, whatever they say: the table of docs/replication.md, looked at every
//! second.
use crate::cluster::Cluster;
use crate::cluster::site::Live;
use conveyor::replication::bounds::{
    ELSEWHERE_MAX, LEASES_MAX, LISTENERS_MAX, NEIGHBORS_MAX, OFFERED_RANGES_MAX, OFFERED_SHARES_MIN,
    PUSHERS_MAX, SAID_RANGES_MAX, SERVES_MAX, STATED_MAX, TOLD_OF_MAX,
};

/// Looks at a site as it was at the last full second.
pub fn check_remembered(cluster: &Cluster, site: usize, live: &Live) {
    let is = live.handle.remembered();
    let bounds = cluster.setup.replication;
    let runs_of_one = bounds.offered_runs_max / OFFERED_SHARES_MIN;
    let table = [
        ("bytes that were taken and are not durable", is.taken_bytes, bounds.taken_bytes_max),
        ("runs that one offers", is.offered_runs_of_one, runs_of_one),
        ("runs that all offer", is.offered_runs, runs_of_one * is.sessions.max(OFFERED_SHARES_MIN)),
        ("ranges of a run that one offers", is.offered_ranges_of_run, OFFERED_RANGES_MAX),
        ("names of topics", is.names, bounds.offered_runs_max),
        ("origins of runs", is.origins, bounds.offered_runs_max),
        ("sizes of pieces", is.pieces, is.offered_runs),
        ("heads of a log, or ranges declared lost", is.stated_of_log, STATED_MAX),
        ("neighbors of a store", is.neighbors_of_one, NEIGHBORS_MAX),
        ("ranges that are asked for", is.wants, LEASES_MAX + is.sessions),
        ("answers that are open to one", is.serves_of_one, SERVES_MAX),
        ("ranges that one said it holds of a run", is.said_of_one, SAID_RANGES_MAX),
        ("peers whose entries one has from elsewhere", is.elsewhere_of_one, ELSEWHERE_MAX),
        ("peers whose entries somebody pushes", is.pushers, PUSHERS_MAX),
        ("ranges told of that may be pushed", is.told_of, 3 * TOLD_OF_MAX),
        ("stores and peers with known listeners", is.listeners, LISTENERS_MAX),
    ];
    for (what, count, bound) in table {
        assert!(count <= bound, "P9: {site} remembers {count} {what}, of at most {bound}");
    }
}
