//! All checks, by what they are about.

mod claim;
mod delete;
mod inspect;
mod isolate;
mod register;
mod release;

use crate::check::{Check, Source};

const METAL3_STATES: Source = Source {
    document: "Metal3 user guide",
    clause: "BareMetalHost state machine",
};
const METAL3_API: Source = Source {
    document: "Metal3 API reference",
    clause: "BareMetalHost",
};
const PLATFORM: Source = Source {
    document: "vCluster Platform documentation",
    clause: "Bare metal nodes (metal3 provider)",
};
const NICO: Source = Source {
    document: "NVIDIA infra-controller documentation",
    clause: "Host life cycle, isolation",
};
const STEELYARD: Source = Source {
    document: "Steelyard design",
    clause: "The flow",
};

/// Every check, in the order of the story.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [
        register::CHECKS,
        inspect::CHECKS,
        claim::CHECKS,
        isolate::CHECKS,
        release::CHECKS,
        delete::CHECKS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_words_and_unique() {
        let mut ids = BTreeSet::new();
        for check in all() {
            assert!(ids.insert(check.id), "{} is there twice", check.id);
            assert!(
                check
                    .id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '-')),
                "{}",
                check.id
            );
            assert!(
                !check.sources.is_empty() && !check.mutant.is_empty(),
                "{}",
                check.id
            );
            assert!(
                check.requirement.contains("MUST") || check.requirement.contains("SHOULD"),
                "{}",
                check.id
            );
        }
        assert!(ids.len() >= 10);
    }
}
