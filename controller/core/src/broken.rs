//! The one hook through which a rule can be broken on purpose; see `mutant.rs`.

/// Whether this rule is broken right now: `false` at compile time without the feature `mutants`.
macro_rules! broken {
    ($name:ident) => {{
        #[cfg(feature = "mutants")]
        {
            $crate::mutant::is($crate::mutant::Mutant::$name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

/// Whether drivers, too, are to send a refused password again (`mutant::Mutant::RetryPassword`): they have a memory
/// of their own for what a BMC refused.
pub fn password_is_retried() -> bool {
    broken!(RetryPassword)
}
