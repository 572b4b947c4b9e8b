//! Decisions against files and against themselves.

mod claims;
mod claims_walk;
mod tables;
