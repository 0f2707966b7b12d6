//! The digest tree of a batch: one root over the digests of its raw entries.
//!
//! A leaf is BLAKE3 of the raw entry; an inner node is keyed BLAKE3 of left and right; the left subtree is the
//! largest power of two below the number of leaves, as in BLAKE3 itself; nothing is duplicated. The key keeps a
//! leaf from passing for a node. The root of one leaf is that leaf: the number of entries is signed beside the
//! root, so no two trees share a statement.
//!
//! ```text
//!            root of 5
//!           /         \
//!        4 left      leaf 4
//!       /     \
//!     0 1     2 3
//! ```
use crate::base::ids::Digest;

/// The key of inner nodes.
const NODE_KEY: &[u8; 32] = b"conveyor merkle node, version 1.";

/// The digest of a raw entry.
pub fn leaf(raw_entry: &[u8]) -> Digest {
    Digest::of(raw_entry)
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut both = [0u8; 64];
    both[..32].copy_from_slice(&left.0);
    both[32..].copy_from_slice(&right.0);
    Digest(*blake3::keyed_hash(NODE_KEY, &both).as_bytes())
}

/// The largest power of two below `count`, which is at least 2.
fn left_count(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// The root over `leaves`. Panics when there are none: a batch has at least one entry.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => unreachable!("a batch has at least one entry"),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(left_count(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The digests that lead from leaf `index` to the root, from the leaf upward.
pub fn proof(leaves: &[Digest], index: usize) -> Vec<Digest> {
    assert!(index < leaves.len(), "the leaf is one of the batch");
    let (mut slice, mut at, mut path) = (leaves, index, Vec::new());
    while slice.len() > 1 {
        let (left, right) = slice.split_at(left_count(slice.len()));
        if at < left.len() {
            path.push(root(right));
            slice = left;
        } else {
            path.push(root(left));
            at -= left.len();
            slice = right;
        }
    }
    path.reverse();
    path
}

/// The root that `leaf` at `index` of `count` leads to by `path`; `None` when the path has the wrong length.
pub fn root_of_proof(leaf: Digest, index: usize, count: usize, path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    let (mut size, mut at, mut sides) = (count, index, Vec::new());
    while size > 1 {
        let left = left_count(size);
        let is_left = at < left;
        sides.push(is_left);
        (size, at) = if is_left { (left, at) } else { (size - left, at - left) };
    }
    if sides.len() != path.len() {
        return None;
    }
    let climb = |digest, (is_left, other): (&bool, &Digest)| {
        if *is_left { node(&digest, other) } else { node(other, &digest) }
    };
    Some(sides.iter().rev().zip(path).fold(leaf, climb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_shape_proves_itself_and_nothing_else() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for index in 0..count {
                let path = proof(&leaves, index);
                assert_eq!(root_of_proof(leaves[index], index, count, &path), Some(root));
                let other = leaf(b"another");
                assert_ne!(root_of_proof(other, index, count, &path), Some(root));
                if count > 1 {
                    assert_ne!(root_of_proof(leaves[index], (index + 1) % count, count, &path), Some(root));
                    assert_eq!(root_of_proof(leaves[index], index, count, &path[1..]), None);
                }
            }
        }
    }

    #[test]
    fn order_and_number_of_leaves_change_the_root() {
        let five = leaves(5);
        let mut swapped = five.clone();
        swapped.swap(0, 4);
        assert_ne!(root(&five), root(&swapped));
        assert_ne!(root(&five), root(&five[..4]));
    }

    #[test]
    fn the_left_subtree_is_a_full_power_of_two() {
        for (count, left) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8)] {
            assert_eq!(left_count(count), left);
        }
    }
}
