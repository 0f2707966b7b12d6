//! What peers answer who asks for an entry by its id, while it is on its way to them.
use crate::cluster::answers::{check_answers, check_answers_among};
use crate::cluster::faults::Power;
use crate::cluster::network::Weather;
use crate::cluster::scenarios::{append, append_to, end_alike, pass, tell, tell_and_plant};
use crate::cluster::site::REPLICATION;
use crate::cluster::{DRAFTS, EVENTS, JOBS, Setup};
use conveyor::base::planted::Bug;
use conveyor::replication::ReplicationConfig;
use std::time::Duration;

/// The newest entries come at once and the others slowly, some are trimmed, and a disk was wiped: whoever asks meanwhile
/// gets the entry, or hears rightly why not.
#[test]
fn whoever_asks_for_an_entry_is_told_rightly_whether_it_is_trimmed_lost_or_not_here_yet() {
    let replication = ReplicationConfig { want_bytes_max: 1 << 10, ..REPLICATION };
    let setup = Setup { replication, ..Setup::alike(3) };
    tell_and_plant(60, setup, &[(Bug::MissingIsCalledLost, "P7")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        cluster.crash(2, Power::Lost).await;
        append(&cluster, 0, 100).await;
        append_to(&cluster, EVENTS, 0, 60).await;
        check_answers(&cluster, false).await;
        cluster.wipe(2);
        cluster.network.set_weather(Weather { bytes_per_s: 20 << 10, ..Weather::FAIR });
        cluster.start_all();
        for _ in 0..20 {
            append_to(&cluster, JOBS, 0, 1).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            check_answers_among(&cluster, &cluster.all_live(), false).await;
        }
        cluster.network.set_weather(Weather::FAIR);
        end_alike(&cluster).await;
    });
}

/// All of a run is trimmed before a peer had more than its beginning: what that never held of it is trimmed too, and not to be
/// waited for.
#[test]
fn what_was_trimmed_before_it_came_is_told_as_trimmed() {
    tell(177, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append_to(&cluster, DRAFTS, 0, 5).await;
        end_alike(&cluster).await;
        cluster.network.block([(0, 1), (1, 0)].into());
        append_to(&cluster, DRAFTS, 0, 5).await;
        cluster.delete(0, DRAFTS).await;
        cluster.crash(0, Power::Lost).await;
        cluster.start(0);
        append_to(&cluster, DRAFTS, 0, 1).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
    });
}
