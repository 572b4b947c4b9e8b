//! The agent as its shells see it: events in, actions out, a machine made of memory.

mod api;
mod bench;
mod enrol;
mod erase;
mod image;
mod machine;
