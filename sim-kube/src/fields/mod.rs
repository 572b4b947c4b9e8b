//! Field ownership (`metadata.managedFields`) and server-side apply, after structured-merge-diff.
//!
//! `set` is the trie behind FieldsV1; `diff` and `merge` walk values with their schema; `manage` keeps the
//! entries of an object.

mod diff;
mod manage;
mod merge;
mod set;

pub(crate) use manage::{Operation, Who, apply, track};

#[cfg(test)]
mod tests;
