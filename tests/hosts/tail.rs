//! A reader that follows all along: what it was given while links were cut and peers died.
use crate::cluster::{Entry, Peers, entry};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// See [`Peers::tail`].
pub struct Tail {
    child: Child,
    hearing: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Vec<Entry>>>,
}

impl Peers {
    /// Follows the topic from its beginning, as a program on `host` that is told of these peers does.
    pub fn tail(&self, host: usize, of: &[usize]) -> Tail {
        let addresses: Vec<String> = of.iter().map(|host| Self::address(*host)).collect();
        let mut arguments = vec!["tail", crate::cluster::TOPIC, "--from", "start", "-o", "json"];
        arguments.extend(addresses.iter().flat_map(|address| ["--connect", address]));
        let mut tail = self.command(host, &arguments);
        let mut child =
            tail.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let seen: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let taken = seen.clone();
        let hearing = std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.unwrap();
                assert!(
                    !line.starts_with("{\"gap\""),
                    "nothing is trimmed, and a tail is told of a gap: {line}"
                );
                taken.lock().unwrap().extend(entry(&line));
            }
        });
        Tail { child, hearing: Some(hearing), seen }
    }

    /// Each entry came once, those of a run in their order, and all that was acknowledged comes. Call it when all are up.
    pub fn check_tail(&self, mut tail: Tail) {
        let acknowledged = self.acknowledged();
        self.until("a tail has all that was acknowledged", || {
            let seen = tail.seen.lock().unwrap();
            let ids: BTreeSet<&String> = seen.iter().map(|(id, ..)| id).collect();
            acknowledged.keys().all(|id| ids.contains(id))
        });
        drop(tail.child.kill());
        tail.hearing.take().unwrap().join().unwrap();
        let (mut ids, mut runs) = (BTreeSet::new(), BTreeMap::new());
        for (id, run, seq, payload) in tail.seen.lock().unwrap().iter() {
            assert!(ids.insert(id.clone()), "a tail is given {id} twice");
            let last = runs.insert(run.clone(), *seq).unwrap_or(0);
            assert!(last < *seq, "a tail is given {id} behind number {last} of its run");
            if let Some(said) = acknowledged.get(id) {
                assert_eq!(said, payload, "a tail is given {id} with another content");
            }
        }
        println!("a tail was given {} entries", ids.len());
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
