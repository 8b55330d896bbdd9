//! The files of the metadata log that no other log has: `quorum-state`, and snapshots of the metadata.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::context::{Context, State};
use super::facts::{Known, KnownQuorum, read_bounded};
use super::finding::{Finding, Findings, Remedy, Severity};
use super::window::{Buffer, TRUSTED_SIZE_MAX, Window};
use crate::record::{
    BATCH_HEADER_SIZE, BatchHeader, BatchRef, ControlKey, ControlType, InflateLimits, Scratch, check_stored,
};
use crate::storage::METADATA_TOPIC;
use crate::storage::disk::{Access, Disk};
use crate::types::{LeaderEpoch, Offset};

/// The file's name.
pub(super) const STATE_FILE: &str = "quorum-state";

/// Checks `quorum-state` of this node; how many files that were.
pub(super) fn check_state(
    context: &Context,
    node_id: Option<i32>,
    known: Option<&Known>,
    findings: &mut Findings,
) -> io::Result<u64> {
    const VOTE_IS_LOST: &str = "whom this node voted for is lost, and it must not vote twice: take it out of the \
                                quorum, empty this folder and add it again";
    const NEEDS_NO_VOTE: &str = "this node is the only voter, or none, and the next start makes it anew";
    let path = context.folder.join(STATE_FILE);
    let needs_none = known.is_some_and(|known| known.needs_no_vote(node_id));
    let Some(bytes) = read_bounded(&*context.disk, &path)? else {
        let was_started = context.segments.iter().any(|segment| segment.bytes > 0);
        if was_started && context.state != State::Copy {
            let remedy = if needs_none { Remedy::Passes } else { Remedy::Person(VOTE_IS_LOST) };
            let severity = if needs_none { Severity::Note } else { Severity::Damage };
            findings.push(Finding::damage(path, "it is missing", remedy).as_bad_as(severity));
        }
        return Ok(0);
    };
    let latest = context.epochs.as_ref().and_then(|epochs| epochs.last()).map(|(epoch, _)| *epoch);
    let unknown = KnownQuorum::default();
    let quorum = known.map_or(&unknown, |known| &known.quorum);
    if let Err(what) = state_fault(&bytes, latest, quorum) {
        let remedy = if needs_none { Remedy::PutAside(NEEDS_NO_VOTE) } else { Remedy::Person(VOTE_IS_LOST) };
        findings.push(Finding::damage(path, what, remedy).as_bad_as(context.severity_of_files()));
    }
    Ok(1)
}

/// Snapshots of the metadata in the folder, looked at.
#[derive(Debug, Default)]
pub(super) struct MetadataSnapshots {
    /// Where those end that are sound.
    sound: Vec<Offset>,
    damaged: Vec<(Offset, Finding)>,
}

impl MetadataSnapshots {
    /// Looks at one.
    pub(super) fn check(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        (end, epoch): (Offset, i32),
    ) -> io::Result<()> {
        match snapshot_fault(disk, path, epoch)? {
            Some(finding) => self.damaged.push((end, finding)),
            None => self.sound.push(end),
        }
        Ok(())
    }

    /// Once the log is known, which goes from `first_base` to `log_end`: what else says the same as a damaged
    /// snapshot, and as bytes of the log that are lost.
    pub(super) fn conclude(self, first_base: Option<Offset>, log_end: Offset, findings: &mut Findings) {
        const LATER: &str = "a later snapshot holds all of it";
        const LOG: &str = "the log, and the snapshot before it if there is one, say the same";
        const ALONE: &str = "the metadata before its offset is in no other file here: put this folder of a backup or of \
                             another controller in its place";
        let Self { sound, damaged } = self;
        let begins_at = |offset: Offset| first_base.is_some_and(|first| first <= offset && offset <= log_end);
        let is_replaced = begins_at(Offset::ZERO) || sound.iter().any(|end| begins_at(*end));
        for (end, mut finding) in damaged {
            finding.remedy = if sound.iter().any(|sound| *sound > end) {
                Remedy::PutAside(LATER)
            } else if is_replaced && end <= log_end && log_end > Offset::ZERO {
                Remedy::PutAside(LOG)
            } else {
                Remedy::Person(ALONE)
            };
            findings.push(finding);
        }
        for finding in findings.list_mut() {
            if let Remedy::TakeOut { first, last, .. } = finding.remedy
                && !sound.iter().any(|end| *end > last)
            {
                finding.remedy = Remedy::LostDecisions { first, last };
            }
        }
    }
}

/// Checks `bootstrap.checkpoint` of a log directory.
pub(super) fn check_bootstrap(disk: &dyn Disk, path: &Path, findings: &mut Findings) -> io::Result<()> {
    const NEVER_STARTED: &str = "this node never started: format the directory again";
    const STARTED: &str = "the metadata log has begun, and nobody reads it any more";
    let Some(mut finding) = snapshot_fault(disk, path, 0)? else { return Ok(()) };
    let folder = path.with_file_name(format!("{METADATA_TOPIC}-0"));
    let mut has_begun = false;
    if disk.stat(&folder)?.is_some() {
        for entry in disk.list(&folder)?.iter().filter(|entry| entry.name.ends_with(".log")) {
            has_begun |= disk.stat(&folder.join(&entry.name))?.is_some_and(|stat| stat.len > 0);
        }
    }
    finding.remedy = if has_begun { Remedy::PutAside(STARTED) } else { Remedy::Person(NEVER_STARTED) };
    findings.push(finding);
    Ok(())
}

/// What is wrong with the file; `latest` is the last epoch of the log, `quorum` what its control records say.
fn state_fault(bytes: &[u8], latest: Option<LeaderEpoch>, quorum: &KnownQuorum) -> Result<(), String> {
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
        if !ids.contains(&voted) && voted >= 0 {
            return Err(format!("its vote is for {voted}, which is no voter"));
        }
    }
    held_against(quorum, latest, (leader, epoch, voted))?;
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

/// Holds the leader, its epoch and the vote against the log. A node may know of a leader before it has a batch of it,
/// and may have forgotten whom it knew; but in an epoch that began in the log there is one leader, and nobody votes or
/// is voted for who never was a voter.
fn held_against(
    quorum: &KnownQuorum,
    latest: Option<LeaderEpoch>,
    (leader, epoch, voted): (i64, i64, i64),
) -> Result<(), String> {
    if let Some((begun, due)) = quorum.leader
        && i64::from(begun.0) == epoch
        && leader >= 0
        && leader != i64::from(due)
    {
        return Err(format!("its leader is {leader}; the log says that {due} leads in epoch {epoch}"));
    }
    let is_of_log = latest.is_some_and(|latest| i64::from(latest.0) == epoch);
    for (id, role) in [(leader, "leader"), (voted, "vote")] {
        let is_voter = quorum.ever.iter().any(|voter| i64::from(*voter) == id);
        if id >= 0 && is_of_log && !is_voter && !quorum.ever.is_empty() {
            return Err(format!("its {role} is {id}, which never was a voter"));
        }
    }
    Ok(())
}

/// What is wrong with a snapshot of the metadata, or `bootstrap.checkpoint`: batches without a gap from offset 0 on, all
/// of the snapshot's epoch, from its header to its footer.
fn snapshot_fault(disk: &dyn Disk, path: &Path, epoch: i32) -> io::Result<Option<Finding>> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = file.len()?;
    let mut buffer = Buffer::default();
    let mut window = Window::new(file, &mut buffer, end);
    let mut check =
        SnapshotCheck { epoch: LeaderEpoch(epoch), next: Offset::ZERO, last: None, scratch: Scratch::new() };
    let mut position = 0;
    while position < end {
        match check.batch(&mut window, position)? {
            Ok(size) => position += size,
            Err((offset, what)) => {
                // A snapshot is written whole and renamed: nothing of it is torn by a crash.
                let finding = Finding::damage(path, what, Remedy::Nothing).at(position);
                return Ok(Some(offset.map_or(finding.clone(), |offset| finding.of(offset))));
            }
        }
    }
    let is_whole = check.last == Some(ControlType::SnapshotFooter);
    let what = "it does not end with a footer";
    Ok((!is_whole).then(|| Finding::damage(path, what, Remedy::Nothing).at(end)))
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
