//! Passwords: generated, hashed with Argon2id (RFC 9106), never printed.

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash};
use zeroize::Zeroizing;

/// Letters and digits that are not taken for one another when read aloud: 32 of them.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 5 bits each: 100 bits.
const CHARACTERS: usize = 20;
const GROUP: usize = 5;
/// Longer ones would be a way to make the hub work.
pub const MAX_BYTES: usize = 1_024;

/// A password in the clear; wiped when dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A fresh password such as `k3xpa-9mznt-…`.
pub(super) fn generate() -> Password {
    let mut random = [0u8; CHARACTERS];
    getrandom::fill(&mut random).expect("the kernel gives random bytes because it does so from boot on");
    let letters: Vec<char> = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(GROUP).map(|group| group.iter().collect()).collect();
    Password::new(groups.join("-"))
}

/// PHC string, Argon2id with the crate's defaults (19 MiB, 2 passes: OWASP's minimum).
pub(super) fn hash(password: &Password) -> Option<String> {
    Argon2::default().hash_password(password.reveal().as_bytes()).ok().map(|hash| hash.to_string())
}

/// Compares in constant time.
pub(super) fn matches(password: &Password, hashed: &str) -> bool {
    let short = password.reveal().len() <= MAX_BYTES;
    let Ok(parsed) = PasswordHash::new(hashed) else { return false };
    short && Argon2::default().verify_password(password.reveal().as_bytes(), &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_password_opens_only_its_own_hash() {
        let (one, other) = (generate(), generate());
        let hashed = hash(&one).unwrap();
        assert!(hashed.starts_with("$argon2id$"));
        assert!(matches(&one, &hashed));
        assert!(!matches(&other, &hashed));
        assert!(!matches(&Password::new(String::new()), &hashed));
        assert_eq!(one.reveal().len(), CHARACTERS + 3);
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
