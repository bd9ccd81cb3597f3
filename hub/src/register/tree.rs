//! The Merkle tree over encoded leaves (RFC 9162 section 2.1) and its proofs as lists of hashes.

use super::RegisterError;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::{Digest, Sha256};

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

/// A whole tree, for as long as a proof is made of it; leaves are the encoded messages.
#[derive(Default)]
pub(super) struct Tree(MemoryBackedTree<Sha256, Vec<u8>>);

impl Tree {
    pub fn push(&mut self, leaf: Vec<u8>) {
        self.0.push(leaf);
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    #[cfg(test)]
    fn root(&self) -> Root {
        Root { size: self.len(), hash: (*self.0.root().as_bytes()).into() }
    }

    pub fn inclusion(&self, sequence: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        let index = usize::try_from(sequence).ok().filter(|_| sequence < self.len());
        let index = index.ok_or(RegisterError::OutOfRange(sequence))?;
        Ok(hashes(self.0.prove_inclusion(index).as_bytes()))
    }

    /// Proof that the first `old` leaves are the beginning of this tree.
    pub fn consistency(&self, old: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        let added = self.len().checked_sub(old).filter(|_| old > 0).and_then(|added| usize::try_from(added).ok());
        let added = added.ok_or(RegisterError::OutOfRange(old))?;
        Ok(hashes(self.0.prove_consistency(added).as_bytes()))
    }
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

fn hashes(bytes: &[u8]) -> Vec<[u8; 32]> {
    bytes.as_chunks::<32>().0.to_vec()
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

    #[test]
    fn what_grows_has_the_root_of_the_whole_tree_at_every_size() {
        let (mut growing, mut whole) = (Growing::default(), Tree::default());
        for size in 0..300_u32 {
            assert_eq!(growing.root(), whole.root(), "{size}");
            growing.push(&size.to_be_bytes());
            whole.push(size.to_be_bytes().to_vec());
        }
        assert!(growing.peaks.len() < 10);
    }
}
