//! What was found, one line each, and what it comes to.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::{Output, Table};
use crate::cli::verify::pass::{Checked, Pass};
use crate::storage::verify::{Done, Finding, Severity};
use crate::types::ByteSize;

/// How it is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// One JSON object a line.
    pub(super) json: bool,
    /// No notes.
    pub(super) quiet: bool,
}

/// Prints findings and a row for each target; the exit code.
///
/// # Errors
/// Where stdout takes no more.
pub(super) fn conclude(
    checked: &[Checked],
    pass: &Pass,
    shown: Shown,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let is_wanted = |finding: &&Finding| !shown.quiet || finding.severity == Severity::Damage;
    for one in checked {
        for finding in one.findings.iter().filter(is_wanted) {
            if shown.json {
                output.json(&as_json(finding))?;
            } else {
                let mut finding = finding.clone();
                finding.file = near(&finding.file);
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
        if shown.json {
            output.json(&summary(one))?;
        } else {
            table.row(row(one));
        }
    }
    output.table(&table)?;
    for what in &pass.failed {
        output.error(what);
    }
    for one in checked.iter().filter(|one| one.lacks_metadata()) {
        output.warn(format_args!(
            "{}: no metadata log is in the given directories: nothing is held against it",
            near(&one.target).display()
        ));
    }
    // A wrong path must not pass for a sound directory.
    let is_strange = |one: &&Checked| one.files == 0 && one.counts.batches == 0 && one.damage == 0;
    let strange: Vec<&Checked> = checked.iter().filter(is_strange).collect();
    for one in &strange {
        output.error(format_args!("{}: nothing of Kafka's is here", near(&one.target).display()));
    }
    let has_damage = checked.iter().any(|one| one.damage > 0);
    let is_failed = !pass.failed.is_empty() || !strange.is_empty();
    Ok(if has_damage { Exit::Damage } else { Exit::failed_if(is_failed) })
}

/// Says what a repair did.
///
/// # Errors
/// Where stdout takes no more.
pub(super) fn done(done: &[Done], shown: Shown, output: &mut Output) -> std::io::Result<()> {
    for Done { file, what } in done {
        if shown.json {
            output.json(&json!({"mended": file.display().to_string(), "what": what}))?;
        } else {
            output.line(format_args!("mended: {}: {what}", near(file).display()))?;
        }
    }
    Ok(())
}

/// A path as short as it can be said from here.
fn near(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    below.unwrap_or_else(|| path.to_owned())
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
        near(&one.target).display().to_string(),
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
