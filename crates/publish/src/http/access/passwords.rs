//! Checks passwords against bcrypt hashes, which takes long on purpose.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    ClientNetwork, Refusal,
    cache::{BoundedCache, CacheKey},
    queue::CheckQueue,
};

/// One password is hashed at a time, on a thread of its own, so that serving goes on.
const SLOTS: usize = 1;
/// How many passwords are remembered, valid and invalid ones apart: a flood of wrong ones does not displace a right one.
const MAX_REMEMBERED: usize = 64;
const VALID_LIFETIME: Duration = Duration::from_secs(3600);
const INVALID_LIFETIME: Duration = Duration::from_secs(60);

/// Checks passwords, and remembers the results.
#[derive(Debug)]
pub(super) struct PasswordVerifier {
    queue: CheckQueue,
    valid: BoundedCache<()>,
    invalid: BoundedCache<()>,
}

impl Default for PasswordVerifier {
    fn default() -> PasswordVerifier {
        PasswordVerifier {
            queue: CheckQueue::new(SLOTS),
            valid: BoundedCache::new(MAX_REMEMBERED, VALID_LIFETIME),
            invalid: BoundedCache::new(MAX_REMEMBERED, INVALID_LIFETIME),
        }
    }
}

impl PasswordVerifier {
    /// Whether a password is the user's. The hash is part of what is remembered, so a changed one is checked again.
    pub(super) async fn verify(
        &self,
        users: &BTreeMap<String, String>,
        user: &str,
        password: Vec<u8>,
        network: ClientNetwork,
    ) -> Result<bool, Refusal> {
        let own = users.get(user);
        // An unknown user takes as long as a known one, so that the time does not reveal who is known.
        let slowest = || users.values().max_by_key(|hash| cost(hash));
        let Some(hash) = own.or_else(slowest).cloned() else { return Ok(false) };
        let key = CacheKey::of(&[user.as_bytes(), hash.as_bytes(), &password]);
        if let Some(is_valid) = self.remembered(&key) {
            return Ok(is_valid);
        }
        let turn = self.queue.turn(network).await?;
        if let Some(is_valid) = self.remembered(&key) {
            return Ok(is_valid);
        }
        let is_known = own.is_some();
        let checked = tokio::task::spawn_blocking(move || {
            // The turn lasts until the thread is done, also if the client does not wait.
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false) && is_known
        });
        let is_valid = checked.await.unwrap_or(false);
        let cache = if is_valid { &self.valid } else { &self.invalid };
        cache.insert(key, (), Instant::now());
        Ok(is_valid)
    }

    fn remembered(&self, key: &CacheKey) -> Option<bool> {
        let now = Instant::now();
        let is_valid = self.valid.get(key, now).map(|()| true);
        is_valid.or_else(|| self.invalid.get(key, now).map(|()| false))
    }
}

/// The cost of a bcrypt hash: the number in `$2y$10$...`.
fn cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> BTreeMap<String, String> {
        let hash = bcrypt::hash("secret", 4).expect("the cost is valid");
        BTreeMap::from([("alice".to_owned(), hash)])
    }

    fn network() -> ClientNetwork {
        ClientNetwork::of("10.0.0.1".parse().expect("it is an address"))
    }

    #[tokio::test]
    async fn only_the_password_of_the_user_is_valid() {
        let (verifier, users) = (PasswordVerifier::default(), users());
        for _ in 0..2 {
            let verify = |user: &'static str, password: &str| {
                verifier.verify(&users, user, password.as_bytes().to_vec(), network())
            };
            assert_eq!(verify("alice", "secret").await, Ok(true));
            assert_eq!(verify("alice", "Secret").await, Ok(false));
            assert_eq!(verify("alice", "").await, Ok(false));
            assert_eq!(verify("bob", "secret").await, Ok(false), "the hash is compared, and does not count");
        }
    }

    #[tokio::test]
    async fn a_changed_password_is_checked_again() {
        let (verifier, mut users) = (PasswordVerifier::default(), users());
        let verify = async |users: &BTreeMap<String, String>| {
            verifier.verify(users, "alice", b"secret".to_vec(), network()).await
        };
        assert_eq!(verify(&users).await, Ok(true));
        users.insert("alice".to_owned(), bcrypt::hash("other", 4).expect("the cost is valid"));
        assert_eq!(verify(&users).await, Ok(false));
    }
}
