//! Who can reach whom at all, where that is not everybody: a connected graph with few edges, which no healing changes.
//!
//! ```text
//! chain 0 - 3 - 1 - 4      ring 0 - 3 - 1 - 4 - 0      star 3: 0, 1, 4      ring and one way across it
//! ```
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Pairs of sites between which there is a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Each with the smaller number first.
    pub edges: BTreeSet<(usize, usize)>,
    /// Sites that came later, each with the one that it is a copy of and whose edges it has.
    stand_for: BTreeMap<usize, usize>,
}

impl Mesh {
    /// One among so many sites, at least three.
    pub fn draw(random: &mut Random, count: usize) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        let (first, last) = (order[0], order[count - 1]);
        let chain = order.windows(2).map(|pair| (pair[0], pair[1]));
        // A ring of three is whole.
        let kind = if count == 3 { 0 } else { random.below(4) };
        let edges: Vec<(usize, usize)> = match kind {
            0 => chain.collect(),
            1 => order[1..].iter().map(|site| (first, *site)).collect(),
            2 => chain.chain([(last, first)]).collect(),
            _ => chain.chain([(last, first), (first, order[2])]).collect(),
        };
        let edges = edges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        Self { edges, stand_for: BTreeMap::new() }
    }

    /// A site that is a copy of another has its ways, and one to it.
    pub fn add_copy(&mut self, copy: usize, of: usize) {
        let of = self.stands_for(of);
        self.stand_for.insert(copy, of);
    }

    fn stands_for(&self, site: usize) -> usize {
        self.stand_for.get(&site).copied().unwrap_or(site)
    }

    /// Whether there is a way between two sites.
    pub fn has(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.stands_for(a), self.stands_for(b));
        a == b || self.edges.contains(&(a.min(b), a.max(b)))
    }

    /// Those of `sites` that reach the first of them without any others.
    pub fn connected(&self, sites: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut reached: BTreeSet<usize> = sites.first().copied().into_iter().collect();
        loop {
            let is_next = |site: &&usize| reached.iter().any(|other| self.has(**site, *other));
            let next: BTreeSet<usize> = sites.iter().filter(is_next).copied().collect();
            if next == reached {
                return reached;
            }
            reached = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mesh_is_connected_and_lacks_a_way() {
        for seed in 0..200 {
            let count = 3 + seed as usize % 3;
            let mut mesh = Mesh::draw(&mut Random::new(seed), count);
            let all: BTreeSet<usize> = (0..count).collect();
            assert_eq!(mesh.connected(&all), all, "{mesh:?}");
            assert!(mesh.edges.len() < count * (count - 1) / 2, "{mesh:?}");
            let (of, _) = *mesh.edges.first().unwrap();
            mesh.add_copy(count, of);
            assert!(all.iter().all(|site| mesh.has(count, *site) == mesh.has(of, *site)));
        }
    }
}
