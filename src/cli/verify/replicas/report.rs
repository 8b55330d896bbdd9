//! What came of it: a line for each place where copies differ, what was not compared, and a row for each topic.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::{Output, Table};
use crate::cli::verify::replicas::partition::Compared;
use crate::cli::verify::replicas::read::{Finding, Kind};
use crate::types::{ByteSize, TopicPartition};

/// So many partitions are named behind one reason.
const NAMED_MAX: usize = 5;

/// What a topic comes to.
#[derive(Debug, Default)]
struct Row {
    partitions: usize,
    copies: usize,
    batches: u64,
    bytes: u64,
    differences: u64,
    damage: u64,
    not_compared: usize,
    unjudged: u64,
}

/// See the module.
pub(super) struct Report {
    json: bool,
    quiet: bool,
    rows: BTreeMap<String, Row>,
    /// Copies that were not compared, or not to the end, by broker and reason.
    not_compared: BTreeMap<(i32, String), Vec<String>>,
}

impl Report {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, rows: BTreeMap::new(), not_compared: BTreeMap::new() }
    }

    fn row(&mut self, partition: &TopicPartition) -> &mut Row {
        self.rows.entry(partition.topic.to_string()).or_default()
    }

    /// A copy of which nothing, or not all, was compared.
    ///
    /// # Errors
    /// Where stdout takes no more.
    pub(super) fn not_compared(
        &mut self,
        partition: &TopicPartition,
        broker: i32,
        why: String,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        self.row(partition).not_compared += 1;
        if self.json {
            output.json(&json!({
                "severity": "not compared",
                "topic": partition.topic.as_str(),
                "partition": partition.partition,
                "brokers": [broker],
                "what": why,
            }))?;
        } else {
            self.not_compared.entry((broker, why)).or_default().push(partition.to_string());
        }
        Ok(())
    }

    /// What came of a partition.
    ///
    /// # Errors
    /// Where stdout takes no more.
    pub(super) fn take(
        &mut self,
        partition: &TopicPartition,
        compared: Compared,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        for finding in &compared.findings {
            if self.json {
                output.json(&as_json(partition, finding))?;
            } else {
                output.line(in_words(partition, finding))?;
            }
        }
        if compared.hidden > 0 {
            output.warn(format_args!("{partition}: {} more findings are not listed", compared.hidden));
        }
        if self.json && !self.quiet {
            output.json(&json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition,
                "from": compared.from,
                "to": compared.to,
                "copies": compared.copies,
                "batches": compared.batches,
                "bytes": compared.bytes,
                "findings": compared.findings.len() as u64 + compared.hidden,
                "not_judged": compared.unjudged,
            }))?;
        }
        output.flush_all()?;
        let count = |kind| compared.findings.iter().filter(|finding| finding.kind == kind).count() as u64;
        let row = self.row(partition);
        row.partitions += 1;
        row.copies += compared.copies;
        row.batches += compared.batches;
        row.bytes += compared.bytes;
        row.differences += count(Kind::Difference) + compared.hidden;
        row.damage += count(Kind::Damage);
        row.unjudged += compared.unjudged;
        for (broker, why) in compared.not_compared {
            self.not_compared(partition, broker, why, output)?;
        }
        Ok(())
    }

    /// Says the rest; the exit code.
    ///
    /// # Errors
    /// Where stdout takes no more.
    pub(super) fn conclude(self, output: &mut Output) -> anyhow::Result<Exit> {
        for ((broker, why), mut partitions) in self.not_compared {
            partitions.sort();
            let all = partitions.len();
            partitions.truncate(NAMED_MAX);
            let more = if all > NAMED_MAX { format!(" and {} more", all - NAMED_MAX) } else { String::new() };
            output.line(format_args!(
                "not compared: broker {broker}: {why}: {}{more}",
                partitions.join(", ")
            ))?;
        }
        let unjudged: u64 = self.rows.values().map(|row| row.unjudged).sum();
        if unjudged > 0 {
            output.warn(format_args!(
                "{unjudged} records of compacted topics that not every copy has were too many to follow: not judged"
            ));
        }
        let is_different = self.rows.values().any(|row| row.differences + row.damage > 0);
        let is_part = self.rows.values().any(|row| row.not_compared > 0) || unjudged > 0;
        if !self.json && !self.quiet {
            output.table(&table(&self.rows))?;
        }
        Ok(if is_different { Exit::Damage } else { Exit::failed_if(is_part) })
    }
}

fn table(rows: &BTreeMap<String, Row>) -> Table {
    let mut table = Table::new([
        "TOPIC",
        ">PARTITIONS",
        ">COPIES",
        ">BATCHES",
        ">SIZE",
        ">DIFFERENCES",
        ">DAMAGE",
        ">NOT COMPARED",
    ]);
    for (topic, row) in rows {
        table.row([
            topic.clone(),
            row.partitions.to_string(),
            row.copies.to_string(),
            row.batches.to_string(),
            ByteSize(row.bytes).to_string(),
            row.differences.to_string(),
            row.damage.to_string(),
            row.not_compared.to_string(),
        ]);
    }
    table
}

fn in_words(partition: &TopicPartition, finding: &Finding) -> String {
    let brokers = |ids: &[i32]| {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!("broker{} {}", if ids.len() == 1 { "" } else { "s" }, names.join(","))
    };
    let held: Vec<String> =
        finding.held.iter().map(|(ids, what)| format!("{}: {what}", brokers(ids))).collect();
    let place = match finding.last_offset == finding.offset {
        true => format!("offset {}", finding.offset),
        false => format!("offsets {}-{}", finding.offset, finding.last_offset),
    };
    format!("{}: {partition}: {place}: {} ({})", finding.kind.name(), finding.what, held.join(" | "))
}

fn as_json(partition: &TopicPartition, finding: &Finding) -> serde_json::Value {
    let held = finding.held.iter().map(|(brokers, what)| json!({"brokers": brokers, "what": what}));
    json!({
        "severity": finding.kind.name(),
        "topic": partition.topic.as_str(),
        "partition": partition.partition,
        "offset": finding.offset,
        "last_offset": finding.last_offset,
        "what": finding.what,
        "held": held.collect::<Vec<_>>(),
    })
}
