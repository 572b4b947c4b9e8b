//! A check is a value: one requirement, where it comes from, what it needs, and the judge.

use crate::{
    history::History,
    target::{Capability, Feature},
};
use serde::Serialize;

/// MUST or SHOULD of RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Must,
    Should,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        }
    }
}

/// Where a requirement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    pub document: &'static str,
    pub clause: &'static str,
}

/// What a judge found wrong, in words that name the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding(pub String);

/// Why a judge gives no clean bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The requirement is not met.
    Broken(Vec<Finding>),
    /// The history does not hold what the judge needs, although the target offered it.
    NoEvidence(String),
}

pub type Judge = fn(&History) -> Result<(), Objection>;

/// One requirement.
#[derive(Clone, Copy)]
pub struct Check {
    /// Words that never move: waivers and tickets name them.
    pub id: &'static str,
    pub title: &'static str,
    /// The requirement as a sentence.
    pub requirement: &'static str,
    pub level: Level,
    /// Features that the target must claim for the check to apply.
    pub features: &'static [Feature],
    /// What the suite needs of the target to see it.
    pub needs: &'static [Capability],
    pub sources: &'static [Source],
    /// The suite's version in which the check began to count; `None`: provisional.
    pub since: Option<&'static str>,
    /// The defect of the reference controller that this check catches.
    pub mutant: &'static str,
    pub judge: Judge,
}

impl Check {
    /// What it is about: its id without the last word.
    pub fn group(&self) -> &'static str {
        self.id.rsplit_once('.').map_or(self.id, |(group, _)| group)
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Fails with all findings, if there are any.
pub(crate) fn verdict(findings: Vec<String>) -> Result<(), Objection> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(Objection::Broken(findings.into_iter().map(Finding).collect()))
}

pub(crate) fn no_evidence<T>(what: impl Into<String>) -> Result<T, Objection> {
    Err(Objection::NoEvidence(what.into()))
}
