//! The report itself. Keys keep the order of the types, lists are sorted, so that two runs can be compared by `diff`.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    // Strings, numbers and maps with string keys: nothing in it can fail to be written.
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
