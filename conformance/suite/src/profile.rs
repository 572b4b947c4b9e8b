//! A profile names the checks that are core for a claim of conformance. A skipped core check means partial.

use crate::{check::Check, outcome::Weight};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub name: &'static str,
    pub about: &'static str,
    #[serde(skip)]
    core: Core,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    /// Every check that counts.
    All,
    /// Those whose id begins with one of these.
    Groups(&'static [&'static str]),
}

const PROFILES: &[Profile] = &[
    Profile {
        name: "quick",
        about: "the whole way once, on one lab: minutes",
        core: Core::All,
    },
    Profile {
        name: "metal3",
        about: "what any BareMetalHost controller must do, without tenants",
        core: Core::Groups(&["host.register.", "host.inspect.", "host.delete."]),
    },
];

impl Profile {
    pub fn named(name: &str) -> Result<Profile, String> {
        PROFILES.iter().copied().find(|p| p.name == name).ok_or_else(|| {
            let known: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
            format!(
                "profile {name:?} is not known; known ones are {}",
                known.join(", ")
            )
        })
    }

    pub fn all() -> &'static [Profile] {
        PROFILES
    }

    /// What a check counts for.
    pub fn weight(&self, check: &Check) -> Weight {
        let core = match self.core {
            Core::All => true,
            Core::Groups(groups) => groups.iter().any(|g| check.id.starts_with(g)),
        };
        match (check.since, core) {
            (None, _) => Weight::Provisional,
            (Some(_), true) => Weight::Core,
            (Some(_), false) => Weight::Extended,
        }
    }
}
