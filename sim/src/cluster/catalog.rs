//! P4: the topic in which peers keep what is set for topics. No client writes it, so the model knows nothing of its entries;
//! but all peers end with the same of them, and by them with the same settings.
use crate::cluster::site::Live;
use crate::cluster::written::is_promised;
use crate::cluster::{CATALOG, CLUSTER, Cluster, TOPICS, lock};
use conveyor::base::{EntryId, Timestamp, TopicSettings};
use conveyor::log::topic_reader::Start;
use conveyor::log::{ReadItem, TopicReader};
use std::collections::BTreeMap;

/// What entries of `$catalog` are.
type Entries = BTreeMap<EntryId, (Timestamp, Vec<u8>)>;

/// Compares what sites that reach each other hold of it, and what they take from it.
pub fn check_catalog(cluster: &Cluster, live: &BTreeMap<usize, Live>) {
    let mut first: Option<(usize, Entries, Vec<TopicSettings>)> = None;
    for (site, of_site) in live {
        let (entries, settings) = (entries(cluster, *site, live), settings(of_site));
        let Some((before, of_first, set_first)) = &first else {
            first = Some((*site, entries, settings));
            continue;
        };
        let is_other = |id: &&EntryId| of_first.get(*id) != entries.get(*id);
        let other = of_first.keys().chain(entries.keys()).find(is_other);
        assert_eq!(other, None, "P4: {before} and {site} hold different entries of $catalog");
        assert_eq!(set_first, &settings, "P4: {before} and {site} have different settings");
    }
}

fn entries(cluster: &Cluster, site: usize, live: &BTreeMap<usize, Live>) -> Entries {
    let store = live[&site].handle.store().clone();
    let mut reader = TopicReader::open(store, CLUSTER, CATALOG.id(), Start::Oldest, false)
        .unwrap_or_else(|error| panic!("{site} cannot be read: {error}"));
    let mut entries = Entries::new();
    loop {
        let items = reader.next(64 << 10).unwrap_or_else(|error| panic!("{site} cannot be read: {error}"));
        if items.is_empty() {
            break;
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else { continue };
            let walked = batch.for_each_entry(|id, time, view| {
                if id.seq >= from {
                    let twice = entries.insert(id, (time, view.payload.to_vec()));
                    assert_eq!(twice, None, "P5: {id:?} came twice at {site}");
                }
                true
            });
            assert_eq!(walked, Ok(()), "P7: damaged bytes were served");
        }
    }
    let model = lock(&cluster.model);
    entries.retain(|id, _| is_promised(&model, id, live));
    entries
}

/// What a peer holds to be set for each topic.
fn settings(live: &Live) -> Vec<TopicSettings> {
    let settings = |name| live.handle.topic(&name).map(|topic| topic.settings).unwrap_or_default();
    TOPICS.iter().map(|topic| settings(topic.name())).collect()
}
