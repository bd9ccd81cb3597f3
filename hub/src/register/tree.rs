//! The Merkle tree over encoded leaves (RFC 9162 section 2.1) and its proofs as lists of hashes.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Size and root of the tree at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    pub size: u64,
    pub hash: [u8; 32],
}

impl Root {
    fn known(&self) -> RootHash<Sha256> {
        RootHash::new(self.hash.into(), self.size)
    }
}

/// Subtrees whose roots prove that leaf `sequence` is in the tree of `size` leaves, in the proof's order (PATH of
/// RFC 9162 section 2.1.3.1).
pub(super) fn inclusion_ranges(sequence: u64, size: u64) -> Vec<Range<u64>> {
    let (mut within, mut proof) = (0..size, Vec::new());
    while within.end - within.start > 1 {
        let middle = within.start + split(within.end - within.start);
        let (left, right) = (within.start..middle, middle..within.end);
        let (taken, beside) = if sequence < middle { (left, right) } else { (right, left) };
        proof.push(beside);
        within = taken;
    }
    proof.reverse();
    proof
}

/// Subtrees whose roots prove that the tree of `old` leaves is the beginning of that of `new` (PROOF of RFC 9162
/// section 2.1.4.1); 0 < `old` <= `new`.
pub(super) fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let (mut within, mut proof, mut is_beginning) = (0..new, Vec::new(), true);
    while within.end > old {
        let middle = within.start + split(within.end - within.start);
        let (left, right) = (within.start..middle, middle..within.end);
        if old <= middle {
            proof.push(right);
            within = left;
        } else {
            proof.push(left);
            within = right;
            is_beginning = false;
        }
    }
    if !is_beginning {
        proof.push(within);
    }
    proof.reverse();
    proof
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root of a tree that grows, from the roots of its perfect subtrees (RFC 9162 section 2.1.2): as many hashes
/// as its size has digits in base 2, however many leaves there are.
#[derive(Default)]
pub(super) struct Growing {
    /// Height and root, the highest first.
    peaks: Vec<(u32, [u8; 32])>,
    size: u64,
}

impl Growing {
    pub fn push(&mut self, leaf: &[u8]) {
        let (mut height, mut hash) = (0, digest(&[&[0], leaf]));
        while let Some((_, left)) = self.peaks.pop_if(|(beside, _)| *beside == height) {
            (height, hash) = (height + 1, digest(&[&[1], &left, &hash]));
        }
        self.peaks.push((height, hash));
        self.size += 1;
    }

    pub fn len(&self) -> u64 {
        self.size
    }

    pub fn root(&self) -> Root {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let last = peaks.next().unwrap_or_else(|| digest(&[]));
        Root { size: self.size, hash: peaks.fold(last, |right, left| digest(&[&[1], &left, &right])) }
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// Whether `leaf`, encoded, stands at `sequence` in the tree with this root.
pub fn verify_inclusion(root: &Root, sequence: u64, leaf: &[u8], proof: &[[u8; 32]]) -> bool {
    let Ok(proof) = InclusionProof::<Sha256>::try_from_bytes(proof.concat()) else { return false };
    root.known().verify_inclusion(&leaf, sequence, &proof).is_ok()
}

/// Whether the tree with root `old` is the beginning of that with root `new`.
pub fn verify_consistency(old: &Root, new: &Root, proof: &[[u8; 32]]) -> bool {
    let Ok(proof) = ConsistencyProof::<Sha256>::try_from_bytes(proof.concat()) else { return false };
    new.known().verify_consistency(&old.known(), &proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;

    type Whole = MemoryBackedTree<Sha256, Vec<u8>>;

    fn leaf(n: u64) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    fn roots(ranges: Vec<Range<u64>>) -> Vec<u8> {
        let root = |range: Range<u64>| {
            let mut tree = Growing::default();
            range.for_each(|n| tree.push(&leaf(n)));
            tree.root().hash
        };
        ranges.into_iter().flat_map(root).collect()
    }

    #[test]
    fn roots_and_proofs_are_those_of_the_whole_tree_at_every_size() {
        let (mut growing, mut whole) = (Growing::default(), Whole::default());
        for size in 0..70 {
            let root = (*whole.root().as_bytes()).into();
            assert_eq!(growing.root(), Root { size, hash: root });
            for sequence in 0..size {
                let proof = whole.prove_inclusion(sequence as usize);
                assert_eq!(roots(inclusion_ranges(sequence, size)), proof.as_bytes(), "{sequence} of {size}");
                let proof = whole.prove_consistency((size - sequence - 1) as usize);
                let old = sequence + 1;
                assert_eq!(roots(consistency_ranges(old, size)), proof.as_bytes(), "{old} of {size}");
            }
            growing.push(&leaf(size));
            whole.push(leaf(size));
        }
        assert!(growing.peaks.len() < 10);
    }
}
