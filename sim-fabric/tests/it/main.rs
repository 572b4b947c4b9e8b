//! The fabric through its public face: frames between ports, the management API over real HTTP, captures read
//! back, TCP/IP stacks that talk, or must not.

mod bridge;
mod capture;
mod commit;
mod faults;
mod gateway;
mod isolation;
mod netris;
mod serve;
mod stacks;
mod support;
mod topology;
