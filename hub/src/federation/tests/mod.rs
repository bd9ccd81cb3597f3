//! Two and more federations in one process: real TLS over loopback, real SQLite, the real door and
//! register; only footage and events are canned.

mod agreements;
mod asking;
mod door;
mod hostile;
mod leases;
mod playback;
mod relay;
mod town;

use crate::fleet::Identity;
use campanile_proto::ids::OrganisationId;
use ed25519_dalek::SigningKey;

/// An organisation whose keys are made of its number.
pub fn identity(number: u8) -> Identity {
    let key = |kind: u8| SigningKey::from_bytes(&[number.wrapping_mul(16).wrapping_add(kind); 32]);
    Identity {
        id: OrganisationId::from_u128(number.into()),
        name: format!("Comune {number}"),
        ipa_code: format!("c_{number}"),
        long_term: key(1),
        hub: key(2),
        register: key(3),
        made_now: true,
    }
}
