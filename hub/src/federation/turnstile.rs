//! How many requests of one partner are answered at once: a busy partner slows nobody else.

use campanile_proto::ids::OrganisationId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A playback asks for two streams and a few groups ahead; a partner has a few operators at work.
const AT_ONCE: usize = 32;

#[derive(Default)]
pub struct Turnstile(Mutex<HashMap<OrganisationId, Arc<Semaphore>>>);

impl Turnstile {
    /// A place for one request, kept until dropped; none when all are taken.
    pub fn pass(&self, partner: OrganisationId) -> Option<OwnedSemaphorePermit> {
        let mut partners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = partners.entry(partner).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
        places.clone().try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_partner_slows_nobody_else() {
        let turnstile = Turnstile::default();
        let (busy, quiet) = (OrganisationId::from_u128(1), OrganisationId::from_u128(2));
        let held: Vec<_> = std::iter::from_fn(|| turnstile.pass(busy)).take(AT_ONCE + 1).collect();
        assert_eq!(held.len(), AT_ONCE);
        assert!(turnstile.pass(quiet).is_some());
        drop(held);
        assert!(turnstile.pass(busy).is_some());
    }
}
