//! What was found, one line each, and what it comes to.

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::{Output, Table};
use crate::cli::verify::pass::Checked;
use crate::storage::verify::{Finding, Severity};
use crate::types::ByteSize;

/// Prints findings and a row for each target.
///
/// # Errors
/// Where stdout takes no more.
pub(super) fn print(
    checked: &[Checked],
    json: bool,
    quiet: bool,
    output: &mut Output,
) -> std::io::Result<()> {
    let is_wanted = |finding: &&Finding| !quiet || finding.severity == Severity::Damage;
    for one in checked {
        for finding in one.findings.iter().filter(is_wanted) {
            if json {
                output.json(&as_json(finding))?;
            } else {
                output.line(format_args!("{}: {finding}", finding.severity.name()))?;
            }
        }
        if one.hidden > 0 {
            output.warn(format_args!(
                "{}: {} more findings are not listed",
                one.target.display(),
                one.hidden
            ));
        }
    }
    let mut table = Table::new([
        "PATH", "STATE", ">LOGS", ">FILES", ">BATCHES", ">RECORDS", ">SIZE", ">ENTRIES", ">DAMAGE", ">NOTES",
    ]);
    for one in checked {
        if json {
            output.json(&summary(one))?;
        } else {
            table.row(row(one));
        }
    }
    output.table(&table)
}

/// The exit code of what was found.
pub(super) fn exit(checked: &[Checked], has_failed: bool) -> Exit {
    if checked.iter().any(|one| one.damage > 0) { Exit::Damage } else { Exit::failed_if(has_failed) }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "severity": finding.severity.name(),
        "file": finding.file.display().to_string(),
        "position": finding.position,
        "offset": finding.offset.map(|offset| offset.0),
        "what": finding.what,
        "remedy": finding.remedy.to_string(),
        "mendable": finding.remedy.mends(),
    })
}

fn notes(one: &Checked) -> u64 {
    (one.findings.len() as u64 + one.hidden).saturating_sub(one.damage)
}

fn summary(one: &Checked) -> serde_json::Value {
    json!({
        "path": one.target.display().to_string(),
        "state": one.state.name(),
        "logs": one.logs,
        "files": one.files,
        "batches": one.counts.batches,
        "records": one.counts.records,
        "bytes": one.counts.bytes,
        "index_entries": one.counts.index_entries,
        "damage": one.damage,
        "notes": notes(one),
    })
}

fn row(one: &Checked) -> [String; 10] {
    [
        one.target.display().to_string(),
        one.state.name().to_owned(),
        one.logs.to_string(),
        one.files.to_string(),
        one.counts.batches.to_string(),
        one.counts.records.to_string(),
        ByteSize(one.counts.bytes).to_string(),
        one.counts.index_entries.to_string(),
        one.damage.to_string(),
        notes(one).to_string(),
    ]
}
