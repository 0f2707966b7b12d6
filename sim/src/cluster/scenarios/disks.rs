//! Disks that rot, lie, fail and fill up.
use crate::cluster::faults::Power;
use crate::cluster::scenarios::{append, end_alike, pass, tell};
use crate::cluster::{Setup, check};
use std::collections::BTreeSet;

#[test]
fn a_store_that_lost_its_certificates_with_its_checkpoint_is_given_them_with_the_batches_it_lacks() {
    tell(43, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 20).await;
        append(&cluster, 1, 20).await;
        end_alike(&cluster).await;
        cluster.crash(2, Power::Lost).await;
        cluster.rot(2, "checkpoint", 3);
        append(&cluster, 0, 20).await;
        cluster.start_all();
        end_alike(&cluster).await;
        let messages = cluster.network.counts().delivered;
        assert!(messages < 2_000, "P9: {messages} messages went for 60 appends");
    });
}

#[test]
fn what_rots_at_rest_is_found_by_the_scrub_and_had_back() {
    tell(44, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 200).await;
        end_alike(&cluster).await;
        for site in [0, 1] {
            // Only once the other holds everything for sure again.
            cluster.rot(site, ".segment", 3);
            cluster.read_through().await;
            end_alike(&cluster).await;
        }
    });
}

#[test]
fn damage_is_never_done_where_an_entry_has_no_other_holder() {
    tell(45, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 200).await;
        end_alike(&cluster).await;
        cluster.crash(1, Power::Lost).await;
        cluster.wipe(1);
        let before = cluster.files(0, ".segment").len();
        assert!(before > 0);
        cluster.rot(0, ".segment", 1_000);
        check::check_among(&cluster, &BTreeSet::from([0]));
        cluster.start_all();
        end_alike(&cluster).await;
    });
}
