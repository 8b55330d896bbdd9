//! A segment's `.txnindex`, held against the abort markers of its log as they come by.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::context::Context;
use super::finding::{Finding, Remedy, Severity};
use super::producers::Aborted;
use crate::storage::disk::{Access, DiskFile};
use crate::storage::place::Suffix;
use crate::storage::transaction_index::AbortedTransaction;

const ENTRY_SIZE: usize = 34;
/// Entries read at once.
const PIECE_ENTRIES: usize = 120;

/// What was found at a marker.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) findings: Vec<Finding>,
    /// What cleaning explains.
    pub(super) unless_cleaned: Vec<Finding>,
}

/// See the module. A file that is missing has no entries.
#[derive(Debug)]
pub(super) struct Transactions {
    path: PathBuf,
    severity: Severity,
    file: Option<Arc<dyn DiskFile>>,
    len: u64,
    position: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

impl Transactions {
    /// Opens that of a segment.
    pub(super) fn open(context: &Context, slot: usize) -> io::Result<Option<Self>> {
        let path = context.path(context.segments[slot].base, Suffix::TransactionIndex);
        let file = match context.disk.open(&path, Access::Read) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let len = file.as_ref().map_or(Ok(0), |file| file.len())?;
        let severity = context.severity_beside(slot);
        Ok(Some(Self { path, severity, file, len, position: 0, piece: Vec::new(), piece_at: 0 }))
    }

    /// A marker that aborts came by.
    pub(super) fn aborted(&mut self, aborted: &Aborted, is_certain: bool) -> io::Result<Said> {
        let mut said = Said::default();
        loop {
            let Some(entry) = self.peek(&mut said.findings)? else {
                self.missing(aborted, is_certain, &mut said);
                return Ok(said);
            };
            if entry.last_offset > aborted.marker {
                self.missing(aborted, is_certain, &mut said);
                return Ok(said);
            }
            let position = self.position;
            self.position += ENTRY_SIZE as u64;
            if entry.last_offset < aborted.marker {
                let what = format!("an entry says a marker at {}, where none aborts", entry.last_offset);
                said.findings.push(self.finding(what).at(position).of(entry.last_offset));
                continue;
            }
            self.compare(&entry, aborted, position, is_certain, &mut said);
            return Ok(said);
        }
    }

    /// No entry is for this marker.
    fn missing(&self, aborted: &Aborted, is_certain: bool, said: &mut Said) {
        if aborted.first_offset.is_none() || !is_certain {
            return;
        }
        let what = format!("the transaction aborted at {} is not in it", aborted.marker);
        let finding = self.finding(what).of(aborted.marker);
        let list = if aborted.has_records { &mut said.findings } else { &mut said.unless_cleaned };
        list.push(finding);
    }

    fn compare(
        &self,
        entry: &AbortedTransaction,
        aborted: &Aborted,
        position: u64,
        is_certain: bool,
        said: &mut Said,
    ) {
        let finding = |what: String| self.finding(what).at(position).of(aborted.marker);
        if entry.producer_id != aborted.producer_id {
            let (says, has) = (entry.producer_id, aborted.producer_id);
            said.findings.push(finding(format!("an entry says producer {says}, the marker is of {has}")));
        } else if entry.first_offset > entry.last_offset
            || entry.last_stable_offset > entry.last_offset.next()
        {
            let (first, stable) = (entry.first_offset, entry.last_stable_offset);
            said.findings
                .push(finding(format!("an entry says first offset {first} and last stable offset {stable}")));
        } else if aborted.first_offset.is_some_and(|first| first < entry.first_offset) {
            // Cleaning takes records away, and adds none.
            let what = format!("an entry says first offset {}, a batch before is of it", entry.first_offset);
            said.findings.push(finding(what));
        } else if is_certain {
            let has = (aborted.first_offset, aborted.last_stable_offset);
            let says = (Some(entry.first_offset), entry.last_stable_offset);
            if says != has {
                let what = format!(
                    "an entry says first offset {} and last stable offset {}, the log {} and {}",
                    entry.first_offset,
                    entry.last_stable_offset,
                    aborted.first_offset.map_or_else(|| "none".to_owned(), |first| first.to_string()),
                    aborted.last_stable_offset
                );
                said.unless_cleaned.push(finding(what));
            }
        }
    }

    /// The segment is over: what is left names markers that are not there.
    pub(super) fn left_over(&mut self, context: &Context) -> io::Result<Vec<Finding>> {
        let mut found = Vec::new();
        while let Some(entry) = self.peek(&mut found)? {
            let is_new = context.state == super::context::State::Running;
            if !is_new {
                let what = format!("an entry says a marker at {}, where none aborts", entry.last_offset);
                found.push(self.finding(what).at(self.position).of(entry.last_offset));
            }
            self.position += ENTRY_SIZE as u64;
        }
        Ok(found)
    }

    fn finding(&self, what: String) -> Finding {
        Finding::damage(&*self.path, what, Remedy::MakeIndex).as_bad_as(self.severity)
    }

    /// The next entry. What is none ends the file.
    fn peek(&mut self, found: &mut Vec<Finding>) -> io::Result<Option<AbortedTransaction>> {
        let Some(file) = self.file.clone().filter(|_| self.position < self.len) else { return Ok(None) };
        let held = self.piece_at..self.piece_at + self.piece.len() as u64;
        if !held.contains(&self.position) {
            let size = (PIECE_ENTRIES * ENTRY_SIZE) as u64;
            self.piece.resize(size.min(self.len - self.position) as usize, 0);
            let filled = file.read_at(&mut self.piece, self.position)?;
            self.piece.truncate(filled);
            self.piece_at = self.position;
        }
        let at = (self.position - self.piece_at) as usize;
        let entry = self.piece.get(at..).and_then(|bytes| bytes.first_chunk::<ENTRY_SIZE>());
        let parsed = entry.and_then(AbortedTransaction::from_bytes);
        if parsed.is_none() {
            let what = match entry {
                Some(_) => "an entry of a version that is not known".to_owned(),
                None => format!("{} bytes at the end are no entry", self.len - self.position),
            };
            found.push(self.finding(what).at(self.position));
            self.position = self.len;
        }
        Ok(parsed)
    }
}
