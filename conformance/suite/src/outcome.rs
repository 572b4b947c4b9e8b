//! The six outcomes, and what a run of them amounts to.

use serde::Serialize;

/// What came of one check. Ordered from best to worst: a result may only get worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Pass,
    /// The target does not claim the feature.
    NotApplicable,
    /// A SHOULD is not met.
    Warn,
    /// The target lacks what the check needs, or the user excluded it.
    NotRun,
    /// A MUST is not met.
    Fail,
    /// The suite, a fixture or the connection broke: no verdict on the target.
    Error,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Pass,
        Outcome::NotApplicable,
        Outcome::Warn,
        Outcome::NotRun,
        Outcome::Fail,
        Outcome::Error,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::NotApplicable => "not applicable",
            Outcome::Warn => "warn",
            Outcome::NotRun => "not run",
            Outcome::Fail => "fail",
            Outcome::Error => "error",
        }
    }

    #[must_use]
    pub fn worse_of(self, other: Outcome) -> Outcome {
        self.max(other)
    }
}

/// What a check counts for in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The profile stands or falls with it.
    Core,
    /// It may be left out; a failure is a failure.
    Extended,
    /// Not promoted yet: run and shown, and counts for nothing.
    Provisional,
}

impl Weight {
    pub fn as_str(self) -> &'static str {
        match self {
            Weight::Core => "core",
            Weight::Extended => "extended",
            Weight::Provisional => "provisional",
        }
    }
}

/// What a run amounts to, and its exit code. Ordered: the worst of its checks decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything that the profile calls core passed.
    Success,
    /// A core check was not run, so nothing can be claimed.
    Partial,
    /// A MUST is not met.
    Failure,
    /// The suite or the target broke.
    Error,
}

impl Verdict {
    /// What outcomes amount to, each with its weight.
    pub fn of(outcomes: impl IntoIterator<Item = (Outcome, Weight)>) -> Verdict {
        let verdicts = outcomes
            .into_iter()
            .map(|(outcome, weight)| match (outcome, weight) {
                (_, Weight::Provisional) => Verdict::Success,
                (Outcome::Error, _) => Verdict::Error,
                (Outcome::Fail, _) => Verdict::Failure,
                (Outcome::NotRun, Weight::Core) => Verdict::Partial,
                _ => Verdict::Success,
            });
        verdicts.max().unwrap_or(Verdict::Success)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Success => "success",
            Verdict::Failure => "failure",
            Verdict::Error => "error",
            Verdict::Partial => "partial",
        }
    }

    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Success => 0,
            Verdict::Failure => 1,
            Verdict::Error => 2,
            Verdict::Partial => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Outcome::*;
        use Weight::{Core, Extended, Provisional};
        let cases: &[(&[(Outcome, Weight)], Verdict, u8)] = &[
            (&[], Verdict::Success, 0),
            (
                &[(Pass, Core), (Warn, Core), (NotApplicable, Core)],
                Verdict::Success,
                0,
            ),
            (&[(Pass, Core), (NotRun, Extended)], Verdict::Success, 0),
            (&[(Pass, Core), (NotRun, Core)], Verdict::Partial, 3),
            (&[(NotRun, Core), (Fail, Extended)], Verdict::Failure, 1),
            (&[(Fail, Core), (Error, Extended)], Verdict::Error, 2),
            (
                &[(Pass, Core), (Fail, Provisional), (Error, Provisional)],
                Verdict::Success,
                0,
            ),
        ];
        for (outcomes, verdict, code) in cases {
            let found = Verdict::of(outcomes.iter().copied());
            assert_eq!((found, found.exit_code()), (*verdict, *code), "{outcomes:?}");
        }
        assert_eq!(Pass.worse_of(Fail).worse_of(Warn), Fail);
    }
}
