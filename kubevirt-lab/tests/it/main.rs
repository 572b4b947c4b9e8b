//! The lab as a whole: one data centre per test, in memory and on paused time. Nothing here opens a socket.

mod api_faults;
mod bad_input;
mod crash;
mod harness;
mod log;
mod net;
mod objects;
mod restart;
mod watch;
mod whole_way;
