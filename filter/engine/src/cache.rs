//! The bounded memory of tokens that were verified: a second sight of a token costs a comparison, not a signature.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

/// Where a token's entry lies: its last bytes, which belong to the signature and are as good as random for tokens that
/// verified. No hash is needed, and the whole token is compared after all.
type Slot = [u8; 16];

/// First in, first out; at most `capacity` entries, each as large as its token (16 KiB at most) and its value.
pub(crate) struct TokenCache<T> {
    capacity: usize,
    entries: HashMap<Slot, Entry<T>>,
    order: VecDeque<Slot>,
}

struct Entry<T> {
    token: Box<str>,
    value: Rc<T>,
}

impl<T> std::fmt::Debug for TokenCache<T> {
    /// How many there are: even a slot is a part of a token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} tokens", self.entries.len())
    }
}

impl<T> TokenCache<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What was stored for exactly this token.
    pub(crate) fn get(&self, token: &str) -> Option<Rc<T>> {
        let entry = self.entries.get(&slot(token)?)?;
        (*entry.token == *token).then(|| Rc::clone(&entry.value))
    }

    /// Stores a value, at the cost of the oldest entry when full.
    pub(crate) fn insert(&mut self, token: &str, value: Rc<T>) {
        let Some(slot) = slot(token) else { return };
        let entry = Entry {
            token: token.into(),
            value,
        };
        if self.entries.insert(slot, entry).is_some() {
            return;
        }
        self.order.push_back(slot);
        if self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }
}

fn slot(token: &str) -> Option<Slot> {
    token.as_bytes().last_chunk().copied()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod properties;

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn token(number: u32) -> String {
        format!("header.claims.{number:016}")
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn finds_only_the_very_same_token() {
        let mut cache = TokenCache::new(4);
        cache.insert(&token(1), Rc::new(1));
        assert_eq!(cache.get(&token(1)).as_deref(), Some(&1));
        assert_eq!(cache.get(&token(2)), None);
        assert_eq!(
            cache.get(&format!("other.{:016}", 1)),
            None,
            "same end, another token"
        );
        assert_eq!(cache.get("short"), None);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn prints_nothing_of_a_token() {
        let mut cache = TokenCache::new(4);
        cache.insert(&token(1), Rc::new("value"));
        assert_eq!(format!("{cache:?}"), "1 tokens");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn never_holds_more_than_its_capacity_and_drops_the_oldest() {
        let mut cache = TokenCache::new(3);
        for number in 0..100 {
            cache.insert(&token(number), Rc::new(number));
            cache.insert(&token(number), Rc::new(number));
            assert!(cache.entries.len() <= 3 && cache.order.len() == cache.entries.len());
        }
        assert_eq!(cache.get(&token(96)), None);
        assert!((97..100).all(|number| cache.get(&token(number)).is_some()));
        cache.clear();
        assert_eq!(cache.get(&token(99)), None);
    }
}
