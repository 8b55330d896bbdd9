//! A metadata log in memory that forgets what was not synced, and that may fail at any call: what a node's directory
//! is to the simulator.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use klamm::controller::quorum::{
    AppendRefused, ElectionState, EpochEnd, LogFailure, Membership, QuorumLog, SnapshotId, SnapshotPart,
    VoterSet,
};
use klamm::record::{assign_offsets, batches};
use klamm::types::{LeaderEpoch, Offset};

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub base: Offset,
    pub next: Offset,
    pub epoch: LeaderEpoch,
    pub crc: u32,
    pub bytes: Bytes,
}

/// What a snapshot of the simulator holds: who votes, and a digest of everything before its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub voters: Option<VoterSet>,
    pub kraft_version: i16,
    pub digest: u64,
}

/// A node's disk.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub entries: Vec<Entry>,
    pub start: Offset,
    /// Entries before this one survive a crash.
    pub synced: usize,
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
    pub state: ElectionState,
    pub may_vote: bool,
    pub high_watermark: Offset,
    /// The call that fails, counted from now.
    pub fails_in: Option<u32>,
    /// Bytes of a snapshot that is being fetched.
    pub partial: Vec<u8>,
    /// What is wrong with it on purpose.
    pub flaw: Option<Flaw>,
}

/// A mistake put back, to see that a run finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// What was appended is said to be on disk before it is.
    AcknowledgesBeforeSync,
    /// A wiped directory comes back with its old id, and votes (KAFKA-14077).
    WipedVoterVotes,
    /// A leader that sees no difference between its log and one that ends elsewhere (KIP-101).
    SeesNoDivergence,
}

impl Directory {
    pub fn end(&self) -> Offset {
        self.entries.last().map_or(self.start, |entry| entry.next)
    }

    pub fn last_epoch(&self) -> LeaderEpoch {
        let snapshot = || self.snapshots.keys().next_back().map_or(LeaderEpoch(0), |id| id.epoch);
        self.entries.last().map_or_else(snapshot, |entry| entry.epoch)
    }

    /// The machine stops: of what was not synced, the first `kept` entries happen to be there.
    pub fn crash(&mut self, kept: usize) {
        let kept = (self.synced + kept).min(self.entries.len());
        self.entries.truncate(kept);
        self.synced = kept;
        self.fails_in = None;
        self.partial.clear();
    }

    /// Who votes, as the directory says.
    pub fn membership(&self, configured: VoterSet) -> Membership {
        let mut membership = Membership::new(configured);
        if let Some((id, snapshot)) = self.snapshots.last_key_value() {
            add_snapshot(&mut membership, *id, snapshot);
        }
        for entry in &self.entries {
            membership.read_control_records(entry.base, &entry.bytes);
        }
        membership
    }

    /// The position in `entries` of the batch that holds `offset`.
    pub fn position(&self, offset: Offset) -> usize {
        self.entries.partition_point(|entry| entry.next <= offset)
    }

    /// Drops what a snapshot holds.
    pub fn trim(&mut self, id: SnapshotId, snapshot: Snapshot) {
        let cut = self.position(id.end_offset);
        assert!(self.entries[..cut].last().is_none_or(|entry| entry.next == id.end_offset));
        self.entries.drain(..cut);
        self.synced -= cut;
        self.start = id.end_offset;
        self.snapshots.insert(id, snapshot);
        while self.snapshots.len() > 1 {
            self.snapshots.pop_first();
        }
    }
}

fn add_snapshot(membership: &mut Membership, id: SnapshotId, snapshot: &Snapshot) {
    let at = Offset(id.end_offset.0 - 1);
    if let Some(voters) = &snapshot.voters {
        membership.add_voters(at, voters.clone());
    }
    if snapshot.kraft_version > 0 {
        membership.add_kraft_version(at, snapshot.kraft_version);
    }
}

/// The log of a running node on its directory.
#[derive(Clone, Debug)]
pub struct MemoryLog(pub Rc<RefCell<Directory>>);

impl MemoryLog {
    fn step(&self) -> Result<(), LogFailure> {
        let mut directory = self.0.borrow_mut();
        match &mut directory.fails_in {
            Some(0) => Err(LogFailure("the disk fails".to_owned())),
            Some(calls) => {
                *calls -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl QuorumLog for MemoryLog {
    fn start_offset(&self) -> Offset {
        self.0.borrow().start
    }

    fn end_offset(&self) -> Offset {
        self.0.borrow().end()
    }

    fn last_epoch(&self) -> LeaderEpoch {
        self.0.borrow().last_epoch()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let directory = self.0.borrow();
        if directory.flaw == Some(Flaw::SeesNoDivergence) {
            return EpochEnd { epoch, end_offset: Offset(i64::MAX) };
        }
        let cut = directory.entries.partition_point(|entry| entry.epoch <= epoch);
        if let Some(entry) = directory.entries[..cut].last() {
            return EpochEnd { epoch: entry.epoch, end_offset: entry.next };
        }
        let epoch = directory.snapshots.keys().next_back().map_or(LeaderEpoch(0), |id| id.epoch);
        EpochEnd { epoch, end_offset: directory.start }
    }

    fn append_as_leader(&mut self, appended: &[u8], epoch: LeaderEpoch) -> Result<(), LogFailure> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        for batch in batches(appended) {
            let batch = batch.map_err(|error| LogFailure(error.to_string()))?;
            let base = directory.end();
            let mut bytes = batch.bytes.to_vec();
            assign_offsets(&mut bytes, base, epoch);
            let next = base + (batch.header.last_offset() - batch.header.base_offset) + 1;
            directory.entries.push(Entry { base, next, epoch, crc: batch.header.crc, bytes: bytes.into() });
        }
        Ok(())
    }

    fn append_as_follower(&mut self, appended: &[u8]) -> Result<(), AppendRefused> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        for batch in batches(appended) {
            let batch = batch.map_err(|error| AppendRefused::Damaged(error.to_string()))?;
            let header = batch.header;
            if header.base_offset != directory.end() || header.leader_epoch < directory.last_epoch() {
                return Err(AppendRefused::Damaged(format!("out of place at {}", header.base_offset)));
            }
            directory.entries.push(Entry {
                base: header.base_offset,
                next: header.next_offset(),
                epoch: header.leader_epoch,
                crc: header.crc,
                bytes: Bytes::copy_from_slice(batch.bytes),
            });
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogFailure> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        if directory.flaw != Some(Flaw::AcknowledgesBeforeSync) {
            directory.synced = directory.entries.len();
        }
        Ok(())
    }

    fn truncate(&mut self, end_offset: Offset) -> Result<(), LogFailure> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        let cut = directory.position(end_offset);
        directory.entries.truncate(cut);
        directory.synced = directory.synced.min(cut);
        Ok(())
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Bytes, LogFailure> {
        let directory = self.0.borrow();
        let mut bytes = Vec::new();
        for entry in &directory.entries[directory.position(from)..] {
            if !bytes.is_empty() && bytes.len() + entry.bytes.len() > bytes_max {
                break;
            }
            bytes.extend_from_slice(&entry.bytes);
        }
        Ok(bytes.into())
    }

    fn advance_high_watermark(&mut self, offset: Offset) {
        self.0.borrow_mut().high_watermark = offset;
    }

    fn latest_snapshot(&self) -> Option<SnapshotId> {
        let directory = self.0.borrow();
        directory.snapshots.keys().next_back().copied().filter(|id| id.end_offset > Offset::ZERO)
    }

    fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        position: u64,
        bytes_max: usize,
    ) -> Result<Option<SnapshotPart>, LogFailure> {
        let directory = self.0.borrow();
        let Some(found) = directory.snapshots.get(&snapshot) else { return Ok(None) };
        let whole = encode(found);
        let from = (position as usize).min(whole.len());
        let to = (from + bytes_max.min(40)).min(whole.len());
        let bytes = Bytes::copy_from_slice(&whole[from..to]);
        Ok(Some(SnapshotPart { size: whole.len() as u64, bytes }))
    }

    fn write_snapshot(&mut self, _: SnapshotId, position: u64, bytes: &[u8]) -> Result<(), LogFailure> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        directory.partial.truncate(position as usize);
        assert_eq!(directory.partial.len(), position as usize, "parts follow each other");
        directory.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn install_snapshot(
        &mut self,
        snapshot: SnapshotId,
        membership: &mut Membership,
    ) -> Result<(), AppendRefused> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        let found = decode(&std::mem::take(&mut directory.partial))
            .ok_or_else(|| AppendRefused::Damaged("no snapshot".to_owned()))?;
        directory.entries.clear();
        directory.synced = 0;
        directory.start = snapshot.end_offset;
        membership.clear();
        add_snapshot(membership, snapshot, &found);
        directory.snapshots.clear();
        directory.snapshots.insert(snapshot, found);
        Ok(())
    }

    fn store(&mut self, state: &ElectionState, _: &Membership) -> Result<(), LogFailure> {
        self.step()?;
        let mut directory = self.0.borrow_mut();
        assert!(
            state.epoch >= directory.state.epoch,
            "MonotonicEpoch: {:?} after {:?}",
            state,
            directory.state
        );
        directory.state = *state;
        Ok(())
    }

    fn allow_vote(&mut self) -> Result<(), LogFailure> {
        self.step()?;
        self.0.borrow_mut().may_vote = true;
        Ok(())
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = snapshot.digest.to_be_bytes().to_vec();
    bytes.extend(snapshot.kraft_version.to_be_bytes());
    if let Some(voters) = &snapshot.voters {
        let record = klamm::protocol::encode_to_bytes(&voters.to_record(), 0).unwrap();
        bytes.extend_from_slice(&record);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Snapshot> {
    use klamm::protocol::Message;
    let digest = u64::from_be_bytes(*bytes.first_chunk()?);
    let kraft_version = i16::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let rest = &bytes[10..];
    let voters = (!rest.is_empty()).then(|| {
        let mut decoder = klamm::protocol::Decoder::new(Bytes::copy_from_slice(rest));
        let record = klamm::protocol::messages::voters_record::VotersRecord::decode(&mut decoder, 0).unwrap();
        VoterSet::from_record(&record)
    });
    Some(Snapshot { voters, kraft_version, digest })
}
