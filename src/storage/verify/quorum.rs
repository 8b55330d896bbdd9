//! The files of the metadata log that no other log has: `quorum-state`, and snapshots of the metadata.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::context::Context;
use super::facts::read_bounded;
use super::finding::{Finding, Findings, Remedy};
use super::window::{Buffer, TRUSTED_SIZE_MAX, Window};
use crate::record::{
    BATCH_HEADER_SIZE, BatchHeader, BatchRef, ControlKey, ControlType, InflateLimits, Scratch, check_stored,
};
use crate::storage::disk::{Access, Disk};
use crate::types::{LeaderEpoch, Offset};

/// The file's name.
pub(super) const STATE_FILE: &str = "quorum-state";

/// Checks `quorum-state`; how many files that were.
pub(super) fn check_state(context: &Context, findings: &mut Findings) -> io::Result<u64> {
    let path = context.folder.join(STATE_FILE);
    let Some(bytes) = read_bounded(&*context.disk, &path)? else { return Ok(0) };
    let latest = context.epochs.as_ref().and_then(|epochs| epochs.last()).map(|(epoch, _)| *epoch);
    if let Err(what) = state_fault(&bytes, latest) {
        findings.push(Finding::damage(path, what, Remedy::Nothing).as_bad_as(context.severity_of_files()));
    }
    Ok(1)
}

/// What is wrong with the file; `latest` is the last epoch of the log.
fn state_fault(bytes: &[u8], latest: Option<LeaderEpoch>) -> Result<(), String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let integer =
        |name: &str| json.get(name).and_then(Value::as_i64).ok_or_else(|| format!("{name} is missing"));
    let (leader, epoch, voted) = (integer("leaderId")?, integer("leaderEpoch")?, integer("votedId")?);
    let version = integer("data_version")?;
    let keys: &[&str] = match version {
        0 => &[
            "clusterId",
            "leaderId",
            "leaderEpoch",
            "votedId",
            "appliedOffset",
            "currentVoters",
            "data_version",
        ],
        1 => &["leaderId", "leaderEpoch", "votedId", "votedDirectoryId", "data_version"],
        other => return Err(format!("data_version is {other}; 0 and 1 are known")),
    };
    let written = json.as_object().map(|object| object.keys().map(String::as_str).collect::<Vec<_>>());
    let rendered = serde_json::to_vec(&json).unwrap_or_default();
    if written.as_deref() != Some(keys) || rendered != bytes {
        return Err("it is not as a broker writes it".to_owned());
    }
    if latest.is_some_and(|latest| epoch < i64::from(latest.0)) {
        return Err(format!("its epoch is {epoch}, the log has batches of a later one"));
    }
    if let Some(voters) = json.get("currentVoters") {
        let ids: Vec<i64> = voters
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|voter| voter.get("voterId")?.as_i64())
            .collect();
        if !ids.contains(&leader) && leader >= 0 {
            return Err(format!("its leader {leader} is no voter"));
        }
    }
    if let Some(directory) = json.get("votedDirectoryId").and_then(Value::as_str) {
        let is_zero = directory == crate::types::Uuid::ZERO.to_string();
        if directory.parse::<crate::types::Uuid>().is_err() || (voted < 0) != is_zero {
            return Err(format!("it says a vote for {voted} in directory {directory}"));
        }
    }
    if leader < -1
        || epoch < 0
        || voted < -1
        || (leader == -1 && voted == -1 && epoch > 0 && latest.is_none())
    {
        return Err(format!("it says leader {leader}, epoch {epoch}, vote {voted}"));
    }
    Ok(())
}

/// Checks a snapshot of the metadata, or `bootstrap.checkpoint`: batches without a gap from offset 0 on, all of the
/// snapshot's epoch, from its header to its footer.
pub(super) fn check_snapshot(
    disk: &dyn Disk,
    path: &Path,
    id: Option<(Offset, i32)>,
    findings: &mut Findings,
) -> io::Result<()> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let end = file.len()?;
    let mut buffer = Buffer::default();
    let mut window = Window::new(file, &mut buffer, end);
    let epoch = LeaderEpoch(id.map_or(0, |(_, epoch)| epoch));
    let mut check = SnapshotCheck { epoch, next: Offset::ZERO, last: None, scratch: Scratch::new() };
    let mut position = 0;
    while position < end {
        match check.batch(&mut window, position)? {
            Ok(size) => position += size,
            Err((offset, what)) => {
                // A snapshot is written whole and renamed: nothing of it is torn by a crash.
                let finding = Finding::damage(path, what, Remedy::Nothing).at(position);
                findings.push(offset.map_or(finding.clone(), |offset| finding.of(offset)));
                return Ok(());
            }
        }
    }
    if check.last != Some(ControlType::SnapshotFooter) {
        findings.push(Finding::damage(path, "it does not end with a footer", Remedy::Nothing).at(end));
    }
    Ok(())
}

struct SnapshotCheck {
    epoch: LeaderEpoch,
    next: Offset,
    /// What the last batch begins with, where it is of control records.
    last: Option<ControlType>,
    scratch: Scratch,
}

type Fault = (Option<Offset>, String);

impl SnapshotCheck {
    fn batch(&mut self, window: &mut Window<'_>, position: u64) -> io::Result<Result<u64, Fault>> {
        let header = match BatchHeader::parse(window.bytes(position, BATCH_HEADER_SIZE)?) {
            Ok(header) => header,
            Err(error) => return Ok(Err((None, error.to_string()))),
        };
        let left = window.end() - position;
        if header.size() as u64 > left || header.size() > TRUSTED_SIZE_MAX * 16 {
            let what = format!("the batch is {} bytes long, {left} are left", header.size());
            return Ok(Err((None, what)));
        }
        let bytes = window.bytes(position, header.size())?;
        Ok(self.check(bytes).map(|()| bytes.len() as u64).map_err(|what| (Some(header.base_offset), what)))
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        let batch = BatchRef::first(bytes).map_err(|error| error.to_string())?;
        check_stored(&batch, &InflateLimits::default(), &mut self.scratch)
            .map_err(|fault| fault.to_string())?;
        let header = &batch.header;
        if header.base_offset != self.next {
            return Err(format!("its base offset is {}, {} is due", header.base_offset, self.next));
        }
        if header.leader_epoch != self.epoch {
            return Err(format!("its epoch is {}, the snapshot's is {}", header.leader_epoch, self.epoch));
        }
        let kind = self.control_type(&batch);
        if self.next == Offset::ZERO && kind != Some(ControlType::SnapshotHeader) {
            return Err("it does not begin with a header".to_owned());
        }
        (self.next, self.last) = (header.next_offset(), kind);
        Ok(())
    }

    fn control_type(&mut self, batch: &BatchRef<'_>) -> Option<ControlType> {
        if !batch.header.is_control() {
            return None;
        }
        let mut records = batch.records(&InflateLimits::default(), &mut self.scratch).ok()?;
        Some(ControlKey::parse(records.next()?.ok()?.key?)?.kind)
    }
}
