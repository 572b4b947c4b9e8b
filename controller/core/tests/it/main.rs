//! Decisions against files and against themselves.

mod claims;
mod claims_walk;
mod hosts;
mod hosts_docs;
mod hosts_random;
mod hosts_walk;
mod tables;
