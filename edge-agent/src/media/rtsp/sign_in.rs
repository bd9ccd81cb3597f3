//! Basic and Digest (RFC 7617, RFC 7616; RFC 2617 as cameras have it).

use super::answer::Answer;
use crate::media::Address;
use http_auth::{PasswordClient, PasswordParams};

/// What a camera demands, and what is answered to it.
#[derive(Default)]
pub(super) struct SignIn {
    demanded: Option<PasswordClient>,
}

impl SignIn {
    /// Learns what `refusal` demands; false when it cannot be answered.
    pub fn demanded(&mut self, refusal: &Answer) -> bool {
        let challenges = refusal.all("WWW-Authenticate");
        self.demanded = challenges.fold(PasswordClient::builder(), |builder, one| builder.challenges(one)).build().ok();
        self.demanded.is_some()
    }

    /// The header of this request; none as long as nothing is demanded.
    pub fn header(&mut self, address: &Address, method: &str, uri: &str) -> Option<String> {
        let username = address.username.as_deref()?;
        let password = address.password.as_ref()?.expose();
        self.demanded.as_mut()?.respond(&PasswordParams { username, password, uri, method, body: Some(b"") }).ok()
    }
}
