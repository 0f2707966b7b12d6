//! Tokens that were checked, for a minute: a client sends the same one with each request.
use crate::base::Digest;
use crate::identity::certificate::Authority;
use crate::identity::token::{self, Claims, TokenError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds for which what was found counts: a certificate that ends meanwhile counts so much longer.
const FRESH_S: u64 = 60;
/// Tokens remembered at most.
const COUNT_MAX: usize = 1024;

/// Checks tokens.
pub(super) struct Tokens {
    authority: Authority,
    checked: Mutex<BTreeMap<Digest, (u64, Arc<Claims>)>>,
}

impl Tokens {
    pub(super) fn new(authority: Authority) -> Self {
        Self { authority, checked: Mutex::default() }
    }

    /// What a token says, where it holds at `now_s`.
    pub(super) fn check(&self, word: &str, now_s: u64) -> Result<Arc<Claims>, TokenError> {
        let digest = Digest::of(word.as_bytes());
        let known = self.lock().get(&digest).cloned();
        if let Some((at_s, claims)) = known
            && now_s.abs_diff(at_s) < FRESH_S
            && now_s <= claims.until_s
        {
            return Ok(claims);
        }
        let claims = Arc::new(token::verify(&self.authority, word, now_s)?);
        let mut checked = self.lock();
        if checked.len() >= COUNT_MAX {
            checked.clear();
        }
        checked.insert(digest, (now_s, claims.clone()));
        Ok(claims)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, (u64, Arc<Claims>)>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
