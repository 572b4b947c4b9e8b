//! A small honest POSIX shell for simulated hosts: it runs the scripts that cloud-init and the join endpoint bring.
//!
//! Understood: simple commands, assignments, quoting, `$VAR ${VAR} ${VAR:-x} ${VAR:=x} ${VAR:+x} ${VAR:?x} ${VAR#x} ${VAR%x}
//! $(...)`, backquotes, `$(( ))` with integers, pipes, `&& || ! ;`, `if for while until case`, groups, subshells, functions,
//! redirections, here documents, `set -e -u -x -o pipefail`. Not understood, and refused as a syntax error: background jobs (`&`).
//! Not done: file name globs outside `case` (there are no directories worth it), signals, `trap`.
//!
//! An unknown command is `sh: 1: foo: not found` with status 127, as in dash.

mod commands;
mod exec;
mod expand;
mod io;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use exec::Shell;
pub(crate) use io::Io;
