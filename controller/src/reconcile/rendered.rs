//! What was made for each claim, remembered so that Secrets are not read at each pass.

use crate::key::Key;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use steelyard_core::claim::RenderFacts;

#[derive(Default)]
pub struct RenderedBook(Mutex<BTreeMap<Key, RenderFacts>>);

impl RenderedBook {
    pub(super) fn get(&self, claim: &Key) -> Option<RenderFacts> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(claim)
            .cloned()
    }

    pub(super) fn set(&self, claim: &Key, facts: RenderFacts) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(claim.clone(), facts);
    }

    pub(super) fn forget(&self, claim: &Key) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(claim);
    }
}
