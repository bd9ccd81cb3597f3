//! Every fault has its own random numbers, so that it can be repeated alone.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Of fault `number` of this kind.
pub fn of(seed: u64, kind: &str, number: u64) -> ChaCha8Rng {
    let mut digest = Sha256::new();
    digest.update(seed.to_le_bytes());
    digest.update(number.to_le_bytes());
    digest.update(kind.as_bytes());
    ChaCha8Rng::from_seed(digest.finalize().into())
}
