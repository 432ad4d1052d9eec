//! A small cache with an end for each entry. Keys are digests, so that no secret is kept.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

/// The digest of some strings; where one ends is part of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(super) fn of(parts: &[&[u8]]) -> CacheKey {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        CacheKey(digest.finalize().into())
    }
}

/// A cache of at most `limit` entries. A new one replaces the one that ends first.
#[derive(Debug)]
pub(super) struct BoundedCache<V> {
    limit: usize,
    lifetime: Duration,
    entries: Mutex<BTreeMap<CacheKey, (V, Instant)>>,
}

impl<V: Clone> BoundedCache<V> {
    pub(super) fn new(limit: usize, lifetime: Duration) -> BoundedCache<V> {
        BoundedCache { limit, lifetime, entries: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn get(&self, key: &CacheKey, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(_, end)| now < *end).map(|(value, _)| value.clone())
    }

    pub(super) fn insert(&self, key: CacheKey, value: V, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, end)| now < *end);
        if entries.len() >= self.limit
            && let Some(first) = entries.iter().min_by_key(|(_, (_, end))| *end).map(|(key, _)| *key)
        {
            entries.remove(&first);
        }
        entries.insert(key, (value, now + self.lifetime));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_and_the_oldest_gives_way() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let cache = BoundedCache::new(2, 10 * second);
        let keys = [b"a", b"b", b"c"].map(|text| CacheKey::of(&[text]));
        for (index, key) in (0..).zip(keys) {
            cache.insert(key, index, start + index * second);
        }
        let now = start + 3 * second;
        assert_eq!(keys.map(|key| cache.get(&key, now)), [None, Some(1), Some(2)]);
        assert_eq!(cache.get(&keys[2], start + 12 * second), None);
    }

    #[test]
    fn the_border_between_two_strings_counts() {
        assert_ne!(CacheKey::of(&[b"ab", b"c"]), CacheKey::of(&[b"a", b"bc"]));
    }
}
