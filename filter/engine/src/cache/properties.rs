//! The cache against a model of it: a list in the order of insertion.

use std::rc::Rc;

use proptest::{collection, prelude::*, sample};

use super::{slot, TokenCache};

/// Few enough for a sequence to meet each several times. Those of one row end alike and fight for one slot; the last
/// row is too short for one, or just long enough.
const TOKENS: [&str; 16] = [
    "a.a.0123456789abcdef",
    "a.b.0123456789abcdef",
    "b.a.0123456789abcdef",
    "0123456789abcdef",
    "a.a.0123456789abcdeg",
    "a.b.0123456789abcdeg",
    "é.a.0123456789abcdeg",
    "a.a.1123456789abcdeg",
    "a.a.éééééééé",
    "b.a.éééééééé",
    // The slot starts in the middle of a character.
    "a.a.ééééééééa",
    "b.a.ééééééééa",
    "",
    "a",
    "123456789abcdef",
    "1123456789abcdef",
];

#[derive(Clone, Debug)]
enum Step {
    Insert(&'static str),
    Get(&'static str),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let token = || sample::select(&TOKENS[..]);
    prop_oneof![
        12 => token().prop_map(Step::Insert),
        4 => token().prop_map(Step::Get),
        1 => Just(Step::Clear),
    ]
}

/// What the cache must hold: the oldest first. A token takes the place of one with its slot, age included.
#[derive(Default)]
struct Model(Vec<(&'static str, usize)>);

impl Model {
    fn insert(&mut self, token: &'static str, value: usize, capacity: usize) {
        let Some(new) = slot(token) else { return };
        match self.0.iter_mut().find(|(held, _)| slot(held) == Some(new)) {
            Some(entry) => *entry = (token, value),
            None => self.0.push((token, value)),
        }
        if self.0.len() > capacity {
            self.0.remove(0);
        }
    }

    fn get(&self, token: &str) -> Option<usize> {
        let entry = self.0.iter().find(|(held, _)| *held == token);
        entry.map(|(_, value)| *value)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_holds_what_its_model_holds(
        capacity in 1_usize..6,
        steps in collection::vec(step(), 1..80),
    ) {
        let mut cache = TokenCache::new(capacity);
        let mut model = Model::default();
        for (value, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(token) => {
                    cache.insert(token, Rc::new(value));
                    model.insert(token, value, capacity);
                    let held = slot(token).map(|_| value);
                    prop_assert_eq!(cache.get(token).as_deref().copied(), held, "just inserted");
                }
                Step::Get(token) => {
                    prop_assert_eq!(cache.get(token).as_deref().copied(), model.get(token));
                }
                Step::Clear => {
                    cache.clear();
                    model = Model::default();
                }
            }
            prop_assert!(cache.entries.len() <= capacity, "{} entries", cache.entries.len());
            prop_assert_eq!(cache.order.len(), cache.entries.len());
        }
        for token in TOKENS {
            prop_assert_eq!(cache.get(token).as_deref().copied(), model.get(token), "{}", token);
        }
    }
}
