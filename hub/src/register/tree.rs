//! The Merkle tree over encoded leaves (RFC 9162 section 2.1) and its proofs as lists of hashes.

use super::RegisterError;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;

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

/// The tree in memory; leaves are the encoded messages.
#[derive(Default)]
pub(super) struct Tree(MemoryBackedTree<Sha256, Vec<u8>>);

impl Tree {
    pub fn push(&mut self, leaf: Vec<u8>) {
        self.0.push(leaf);
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn root(&self) -> Root {
        Root { size: self.len(), hash: (*self.0.root().as_bytes()).into() }
    }

    pub fn leaf(&self, sequence: u64) -> Option<&[u8]> {
        self.0.get(usize::try_from(sequence).ok()?).map(Vec::as_slice)
    }

    /// The tree as it was with `size` leaves.
    fn prefix(&self, size: u64) -> Result<Self, RegisterError> {
        let items = usize::try_from(size).ok().and_then(|n| self.0.items().get(..n));
        let mut tree = Self::default();
        items.ok_or(RegisterError::OutOfRange(size))?.iter().for_each(|leaf| tree.push(leaf.clone()));
        Ok(tree)
    }

    pub fn inclusion(&self, sequence: u64, size: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        if sequence >= size || size > self.len() {
            return Err(RegisterError::OutOfRange(sequence.max(size)));
        }
        let index = usize::try_from(sequence).map_err(|_| RegisterError::OutOfRange(sequence))?;
        let proof = if size == self.len() {
            self.0.prove_inclusion(index)
        } else {
            self.prefix(size)?.0.prove_inclusion(index)
        };
        Ok(hashes(proof.as_bytes()))
    }

    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        if old == 0 || old > new || new > self.len() {
            return Err(RegisterError::OutOfRange(if old == 0 { 0 } else { new }));
        }
        let added = usize::try_from(new - old).map_err(|_| RegisterError::OutOfRange(new))?;
        let proof = if new == self.len() {
            self.0.prove_consistency(added)
        } else {
            self.prefix(new)?.0.prove_consistency(added)
        };
        Ok(hashes(proof.as_bytes()))
    }
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
