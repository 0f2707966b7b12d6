//! Starting a peer: open the store, remind the engine of what it needs, set the core going.
use crate::base::{
    Batch, ClusterId, EntryId, EntryKind, EntryView, LogId, Now, PeerId, RunId, Seq, SignedRemoval, StoreId,
    StoreNonce, Timestamp, TopicId, TopicName,
};
use crate::identity::sign::Signer;
use crate::identity::trust::is_signed_removal;
use crate::log::recovery::Recovered;
use crate::log::topic_reader::Start;
use crate::log::{self, ReadItem, Scrub, Store, StoreError};
use crate::node::Node;
use crate::node::memory::Memory;
use crate::node::own_log::Tip;
use crate::replication::PeerInput;
use crate::runtime::config::RuntimeConfig;
use crate::runtime::core::Core;
use crate::runtime::env::Env;
use crate::runtime::handle::{Handle, Room};
use crate::runtime::lanes::Jobs;
use crate::runtime::peers::held_ranges;
use crate::runtime::removals::{leave, note};
use crate::runtime::shared::{Shared, lock};
use crate::topic::producers::{Producers, Remembered, numbers_of};
use crate::wire::outcome::About;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Why a peer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `$catalog` could not be read.
    #[error("the catalog of topics could not be read: {0}")]
    Catalog(std::io::Error),
}

/// Requests that may wait between handles and core.
const REQUESTS_MAX: usize = 1024;

/// Starts a peer. Blocks while the store is opened; answers the handle, and what opening found.
pub fn start(
    env: Env,
    signer: Arc<dyn Signer>,
    config: RuntimeConfig,
) -> Result<(Handle, Recovered), StartError> {
    let (peer, mut found) = (config.node.peer, Producers::default());
    let mut on_batch = |batch: &Batch| recall_producers(&mut found, peer, batch);
    let opened = log::open(env.disk.clone(), config.log, signer, config.trust.clone(), &mut on_batch)?;
    let store = opened.store.clone();
    let nonce = StoreNonce(env.entropy.draw());
    let store_id = StoreId::of(config.node.peer, nonce);
    let node = remind(&env, &config, store_id, &opened.engine, found, &store)?;
    let about = About {
        cluster: config.node.cluster,
        peer: config.node.peer,
        name: config.name.clone(),
        store: store_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let shared = Arc::new(Shared::new(about, nonce, store.clone(), env.clone(), &config));
    store.set_certificate(config.node.peer, config.certificate.clone());
    for (peer, der) in store.certificates() {
        if let Ok((_, name)) = config.trust.peer_of(&der) {
            lock(&shared.names).insert(peer, name);
        }
    }
    lock(&shared.names).insert(config.node.peer, config.name);
    lock(&shared.live).configured = node.configured();
    node.removals().for_each(|signed| note(&shared, signed));
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let (events, happened) = mpsc::unbounded_channel();
    let (slots, sealer) = (opened.writer.slots(), opened.writer.sealer());
    let writer = Arc::new(Mutex::new(opened.writer));
    // Rounds begin elsewhere after each start, so that one that is never let finish reads everything in the end.
    let first = LogId { topic: TopicId(entropy_bytes(&env)), peer: PeerId([0; 32]) };
    let scrub = Arc::new(Mutex::new(Scrub::new(store.clone(), first)));
    let jobs = Jobs { shared: shared.clone(), events, slots, sealer, writer, scrub };
    // What was trimmed and not yet removed when the peer stopped.
    store.logs().iter().filter(|log| !log.look().heads.is_empty()).for_each(|log| jobs.discard(log.id));
    let last = jobs.clone();
    let core = Core::new(node, jobs, config.scrub, asked, happened);
    let (rotation, lock) = (opened.rotation, opened.lock);
    env.spawn.spawn(Box::pin(async move {
        let stopping = core.run(rotation).await;
        // Another process may have the directory only when nothing of ours writes there any more.
        last.settled().await;
        drop(lock);
        // Nobody may wait for the stop: fine.
        let _ = stopping.map(|reply| reply.send(()));
    }));
    let room = Arc::new(Room::new(config.in_flight_bytes_max));
    let (importing, groups) = (Arc::default(), Arc::default());
    Ok((Handle { shared, requests, room, importing, groups }, opened.recovered))
}

fn entropy_bytes(env: &Env) -> [u8; 16] {
    (u128::from(env.entropy.draw()) << 64 | u128::from(env.entropy.draw())).to_be_bytes()
}

/// An engine that knows what the log says.
fn remind(
    env: &Env,
    config: &RuntimeConfig,
    store_id: StoreId,
    engine: &[u8],
    found: Producers,
    store: &Arc<Store>,
) -> Result<Node, StartError> {
    let peer = config.node.peer;
    let own = |topic: TopicId| store.log(&LogId { topic, peer });
    let mut memory = Memory::decode(engine);
    memory.keep_held(|topic, run, seq| {
        own(topic).is_some_and(|log| log.look().run(run).is_some_and(|run| seq < run.until))
    });
    memory.producers.absorb(&found);
    let tips = store.logs().into_iter().filter(|log| log.id.peer == peer).filter_map(|log| {
        let mut state = log.change();
        let Some(tip) = state.furthest_known() else {
            state.go_on_from_furthest();
            return None;
        };
        state.go_on_from(tip.id);
        let tip = Tip { run: tip.id, until: tip.until, last_time: tip.last_time };
        Some((log.id, store.topic_name(log.id.topic)?, tip))
    });
    let tips: Vec<(LogId, TopicName, Tip)> = tips.collect();
    let entropy = env.entropy.clone();
    let mut node =
        Node::new(config.node.clone(), store_id, memory, tips.into_iter(), Box::new(move || entropy.draw()));
    let cluster = config.node.cluster;
    // Who is removed says what of the catalog counts, and whose logs are trimmed here; what does not count says who is removed
    // all the same.
    recall_removals(&mut node, config, store).map_err(StartError::Catalog)?;
    recall_catalog(&mut node, cluster, store).map_err(StartError::Catalog)?;
    recall_held(&mut node, store);
    let now = Now { mono_ms: 0, unix_ms: env.clock.unix_ms() };
    node.resume_deletions(now, |log, run, until| is_left_to_delete(store, log, run, until));
    Ok(node)
}

/// Whether something is still kept of what a deletion names, as far as it is here.
pub(super) fn is_left_to_delete(store: &Store, log: &LogId, run: RunId, until: Seq) -> bool {
    let Some(log) = store.log(log) else { return false };
    let state = log.look();
    let run = state.run(run);
    run.is_some_and(|run| run.start < until && state.kept_from(Some(run.id)) < until.min(run.until))
}

/// What is durable in the store, for others to ask for.
fn recall_held(node: &mut Node, store: &Store) {
    for log in store.logs() {
        let Some(topic) = store.topic_name(log.id.topic) else { continue };
        let state = log.look();
        // In the order in which they are kept, heads last: each goes to the end, and asks no other.
        let (mut held, mut lost) = (held_ranges(&state, log.id), state.lost.clone());
        held.sort_by_key(|held| held.range.run);
        lost.sort_by_key(|(lost, _)| (lost.run, lost.from, lost.until));
        for held in held {
            node.recall_held(PeerInput::Held(topic.clone(), held));
        }
        for (head, signature) in state.heads.iter() {
            node.recall_held(PeerInput::HeldHead(topic.clone(), *head, *signature));
        }
        for (lost, signature) in lost {
            node.recall_held(PeerInput::HeldLost(topic.clone(), lost, signature));
        }
        for fork in &state.forks {
            node.recall_held(PeerInput::HeldFork(topic.clone(), Box::new(*fork)));
        }
    }
}

/// Takes note of removals that are rightly signed, and ends the logs of those peers where they say.
fn recall_removals(node: &mut Node, config: &RuntimeConfig, store: &Arc<Store>) -> std::io::Result<()> {
    let (cluster, trust) = (config.node.cluster, &*config.trust);
    for_each_in_catalog(cluster, store, |id, _, view| {
        let signed = (view.kind == EntryKind::PeerRemove).then(|| SignedRemoval::decode(view.payload).ok());
        if let Some(signed) = signed.flatten().filter(|signed| is_signed_removal(trust, cluster, signed)) {
            node.recall_removal(id.peer, &signed);
        }
    })?;
    let removed = node.replication().removed();
    removed.iter().for_each(|(peer, remains)| drop(leave(store, *peer, remains)));
    Ok(())
}

/// Takes in what counts of `$catalog`, and nothing else.
pub(super) fn recall_catalog(node: &mut Node, cluster: ClusterId, store: &Arc<Store>) -> std::io::Result<()> {
    let mut writes = Vec::new();
    for_each_in_catalog(cluster, store, |id, time, view| {
        if matches!(view.kind, EntryKind::TopicSet | EntryKind::TopicDelete) {
            writes.push((id, time, view.payload.to_vec()));
        }
    })?;
    node.forget_catalog();
    writes.iter().for_each(|(id, time, payload)| node.recall_catalog(*id, *time, payload));
    Ok(())
}

/// Reads `$catalog` as far as its logs reach.
fn for_each_in_catalog(
    cluster: ClusterId,
    store: &Arc<Store>,
    mut on_entry: impl FnMut(EntryId, Timestamp, &EntryView<'_>),
) -> std::io::Result<()> {
    let topic = TopicId::of(cluster, TopicName::catalog().as_str());
    let mut reader = log::TopicReader::open(store.clone(), cluster, topic, Start::Oldest, true)?;
    loop {
        let items = reader.next(1 << 20)?;
        if items.is_empty() {
            return Ok(());
        }
        for item in items {
            match item {
                ReadItem::Batch { batch, .. } => {
                    let walked = batch.for_each_entry(|id, time, view| {
                        on_entry(id, time, view);
                        true
                    });
                    if let Err(error) = walked {
                        tracing::error!(%error, "a batch of $catalog cannot be read");
                    }
                }
                ReadItem::Gap(gap) => tracing::error!(?gap, "part of $catalog is missing"),
                ReadItem::Blocked(blocked) => tracing::error!(?blocked, "part of $catalog cannot be read"),
            }
        }
    }
}

/// Remembers the chunks of a batch of our own, whose boundaries retries keep.
fn recall_producers(found: &mut Producers, peer: PeerId, batch: &Batch) {
    let s = *batch.statement();
    if s.log.peer != peer {
        return;
    }
    let told = batch.for_each_chunk(|index, producers| {
        if let Some((producer, number)) = numbers_of(&producers) {
            let chunk = Remembered {
                number,
                count: producers.len() as u32,
                run: s.run,
                first_seq: s.first_seq.after(index),
                first_time: s.first_time.plus(index),
                step: 0,
            };
            found.add(s.log.topic, producer, chunk);
        }
    });
    if let Err(error) = told {
        tracing::error!(%error, "a batch of the journal cannot be walked");
    }
}
