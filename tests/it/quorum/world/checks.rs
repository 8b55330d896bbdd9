//! The invariants of Kafka's own simulation, looked at after every event.

use std::rc::Rc;

use klamm::controller::quorum::{RoleName, Voter};
use klamm::types::{LeaderEpoch, Offset};

use super::super::log::Directory;
use super::{World, key};

impl World {
    /// What must hold after every event.
    pub(super) fn check(&mut self, node: usize) {
        let Some(quorum) = &self.nodes[node].quorum else { return };
        let (role, epoch, high_watermark) = (quorum.role(), quorum.epoch(), quorum.high_watermark());
        if role == RoleName::Leader {
            let id = node as i32 + 1;
            let first = *self.leaders.entry(epoch).or_insert(id);
            if first != id {
                self.broken(&format!("SingleLeader: {first} and {id} lead in epoch {epoch}"));
            }
        }
        let known = self.nodes[node].high_watermark;
        let Some(high_watermark) = high_watermark else { return };
        if high_watermark < known {
            self.broken(&format!("MonotonicHighWatermark: node {} goes back to {high_watermark}", node + 1));
        }
        let directory = Rc::clone(&self.nodes[node].directory);
        let directory = directory.borrow();
        if directory.start > Offset::ZERO
            && !directory.snapshots.keys().any(|id| id.end_offset == directory.start)
        {
            self.broken("SnapshotAtLogStart: the log begins where no snapshot ends");
        }
        if high_watermark == known {
            return;
        }
        self.nodes[node].high_watermark = high_watermark;
        if role == RoleName::Leader {
            self.check_majority(node, high_watermark);
        }
        self.check_agreed(node, &directory, high_watermark);
    }

    /// MajorityReachedHighWatermark: what a leader counts is on the disks of a majority.
    fn check_majority(&self, node: usize, high_watermark: Offset) {
        let Some(quorum) = &self.nodes[node].quorum else { return };
        let voters = quorum.membership().voters();
        let has = |voter: &&Voter| {
            let state = &self.nodes[voter.key.id as usize - 1];
            let directory = state.directory.borrow();
            let synced =
                directory.entries[..directory.synced].last().map_or(directory.start, |entry| entry.next);
            // One whose directory was lost since then had it when it said so.
            synced >= high_watermark
                || !key(voter.key.id as usize - 1, state.directory_id).matches(&voter.key)
        };
        if voters.iter().filter(has).count() < voters.majority() {
            self.broken(&format!("MajorityReachedHighWatermark: {high_watermark} of node {}", node + 1));
        }
    }

    /// ConsistentCommittedData: everything below every high watermark is the same everywhere, for ever.
    fn check_agreed(&mut self, node: usize, directory: &Directory, high_watermark: Offset) {
        let agreed = &mut self.agreed;
        let mut what = None;
        for entry in directory.entries.iter().filter(|entry| entry.next <= high_watermark) {
            match agreed.ends.binary_search(&entry.next) {
                Ok(at) => {
                    let before = at.checked_sub(1).map_or(0, |before| agreed.digests[before]);
                    if agreed.digests[at] != digest(before, entry.epoch, entry.crc) {
                        what = Some(format!(
                            "the batch before {} of node {} is another one",
                            entry.next,
                            node + 1
                        ));
                    }
                }
                Err(at) if at == agreed.ends.len() => {
                    let before = agreed.digests.last().copied().unwrap_or(0);
                    if agreed.ends.last().copied().unwrap_or_default() != entry.base {
                        what = Some(format!("a hole before {} of node {}", entry.base, node + 1));
                    }
                    agreed.ends.push(entry.next);
                    agreed.digests.push(digest(before, entry.epoch, entry.crc));
                }
                Err(_) => what = Some(format!("no batch ends at {}, but on node {}", entry.next, node + 1)),
            }
        }
        if let (Some((id, snapshot)), None) = (directory.snapshots.last_key_value(), &what)
            && id.end_offset > Offset::ZERO
        {
            let at = agreed.ends.binary_search(&id.end_offset);
            if at.map(|at| agreed.digests[at]) != Ok(snapshot.digest) {
                what = Some(format!("the snapshot {id:?} of node {} holds something else", node + 1));
            }
        }
        if let Some(what) = what {
            self.broken(&format!("ConsistentCommittedData: {what}"));
        }
    }

    /// The leader has everything that was ever agreed on.
    pub(super) fn check_leader_completeness(&self) {
        let quorums = self.nodes.iter().filter(|node| node.quorum.is_some());
        let leaders = quorums
            .filter(|node| node.quorum.as_ref().is_some_and(|quorum| quorum.role() == RoleName::Leader));
        let newest = leaders.max_by_key(|node| node.directory.borrow().state.epoch);
        let Some(newest) = newest else { self.broken("nobody leads") };
        let last = self.agreed.ends.last().copied().unwrap_or_default();
        if newest.directory.borrow().end() < last {
            self.broken("the leader lacks what was agreed on");
        }
    }
}

fn digest(before: u64, epoch: LeaderEpoch, crc: u32) -> u64 {
    let mut mixed = before ^ (u64::from(epoch.0 as u32) << 32) ^ u64::from(crc);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}
