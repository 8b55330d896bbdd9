//! Who votes. A set of voters counts from the moment it stands in the log, committed or not, and for as long as it is
//! not cut off again (KIP-853); before the first one in the log the configured ones count
//! (`controller.quorum.voters`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::voters_record;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::{Decoder, Message};
use crate::record::{BatchRef, ControlKey, ControlType, InflateLimits, Scratch, batches};
use crate::types::{Offset, Uuid};

use super::message::NO_DIRECTORY;

/// A node and the directory it keeps the log in: with another directory it is another replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaKey {
    /// `node.id`
    pub id: i32,
    /// The directory's id, zero where it is not known.
    pub directory_id: Uuid,
}

impl ReplicaKey {
    /// Node `id` with the directory `directory_id`.
    #[must_use]
    pub fn new(id: i32, directory_id: Uuid) -> Self {
        Self { id, directory_id }
    }

    /// The same replica, as far as both say which directory is meant.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.id == other.id
            && (self.directory_id == other.directory_id
                || self.directory_id == NO_DIRECTORY
                || other.directory_id == NO_DIRECTORY)
    }
}

/// Where a node listens for the quorum.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Endpoint {
    /// The listener's name.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// One voter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voter {
    /// Who it is.
    pub key: ReplicaKey,
    /// Where it listens, the first is used.
    pub endpoints: Vec<Endpoint>,
    /// The lowest and highest `kraft.version` it supports.
    pub kraft_versions: (i16, i16),
}

/// A set of voters, by node id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VoterSet {
    voters: BTreeMap<i32, Voter>,
}

impl FromIterator<Voter> for VoterSet {
    fn from_iter<I: IntoIterator<Item = Voter>>(voters: I) -> Self {
        Self { voters: voters.into_iter().map(|voter| (voter.key.id, voter)).collect() }
    }
}

impl VoterSet {
    /// How many votes, or copies of a record, are enough.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.voters.len()
    }

    /// Whether nobody votes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// The voter with this node id.
    #[must_use]
    pub fn get(&self, id: i32) -> Option<&Voter> {
        self.voters.get(&id)
    }

    /// Whether this replica votes.
    #[must_use]
    pub fn contains(&self, replica: &ReplicaKey) -> bool {
        self.get(replica.id).is_some_and(|voter| voter.key.matches(replica))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Voter> {
        self.voters.values()
    }

    /// Whether this replica alone votes.
    #[must_use]
    pub fn is_only(&self, replica: &ReplicaKey) -> bool {
        self.len() == 1 && self.contains(replica)
    }

    /// The set with this voter, in place of one with its id.
    #[must_use]
    pub fn with(&self, voter: Voter) -> Self {
        let mut voters = self.voters.clone();
        voters.insert(voter.key.id, voter);
        Self { voters }
    }

    /// The set without the voter of this id.
    #[must_use]
    pub fn without(&self, id: i32) -> Self {
        let mut voters = self.voters.clone();
        voters.remove(&id);
        Self { voters }
    }

    /// Whether every two majorities of the two sets meet: they differ by one voter at most, each counted with its
    /// directory.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let missing = |from: &Self, of: &Self| {
            of.iter()
                .filter(|voter| from.get(voter.key.id).is_none_or(|found| found.key != voter.key))
                .count()
        };
        missing(self, other) + missing(other, self) <= 1
    }

    /// The record that says it in the log.
    #[must_use]
    pub fn to_record(&self) -> VotersRecord {
        let endpoint = |endpoint: &Endpoint| voters_record::Endpoint {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            ..voters_record::Endpoint::default()
        };
        let voter = |voter: &Voter| voters_record::Voter {
            voter_id: voter.key.id,
            voter_directory_id: voter.key.directory_id,
            endpoints: voter.endpoints.iter().map(endpoint).collect(),
            kraft_version_feature: voters_record::KRaftVersionFeature {
                min_supported_version: voter.kraft_versions.0,
                max_supported_version: voter.kraft_versions.1,
                ..voters_record::KRaftVersionFeature::default()
            },
            ..voters_record::Voter::default()
        };
        VotersRecord { voters: self.iter().map(voter).collect(), ..VotersRecord::default() }
    }

    /// The set that such a record says.
    #[must_use]
    pub fn from_record(record: &VotersRecord) -> Self {
        let endpoint = |endpoint: &voters_record::Endpoint| Endpoint {
            name: endpoint.name.to_string(),
            host: endpoint.host.to_string(),
            port: endpoint.port,
        };
        let voter = |voter: &voters_record::Voter| Voter {
            key: ReplicaKey::new(voter.voter_id, voter.voter_directory_id),
            endpoints: voter.endpoints.iter().map(endpoint).collect(),
            kraft_versions: (
                voter.kraft_version_feature.min_supported_version,
                voter.kraft_version_feature.max_supported_version,
            ),
        };
        record.voters.iter().map(voter).collect()
    }
}

/// The sets of voters and the versions of the quorum's protocol, each from the offset where it stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    configured: VoterSet,
    voters: BTreeMap<Offset, VoterSet>,
    kraft_versions: BTreeMap<Offset, i16>,
}

impl Membership {
    /// Nothing in the log yet: the configured voters count.
    #[must_use]
    pub fn new(configured: VoterSet) -> Self {
        Self { configured, voters: BTreeMap::new(), kraft_versions: BTreeMap::new() }
    }

    /// The voters that count now.
    #[must_use]
    pub fn voters(&self) -> &VoterSet {
        self.voters.last_key_value().map_or(&self.configured, |(_, voters)| voters)
    }

    /// Whether this node's own configuration says that `id` votes.
    #[must_use]
    pub fn is_configured(&self, id: i32) -> bool {
        self.configured.get(id).is_some()
    }

    /// Whether this very directory votes, or did in a set that is still known.
    #[must_use]
    pub fn has_known(&self, key: &ReplicaKey) -> bool {
        self.voters.values().any(|voters| voters.contains(key))
    }

    /// Where they stand in the log, if they do.
    #[must_use]
    pub fn voters_offset(&self) -> Option<Offset> {
        self.voters.last_key_value().map(|(offset, _)| *offset)
    }

    /// The quorum's protocol: 0 static voters, 1 voters in the log.
    #[must_use]
    pub fn kraft_version(&self) -> i16 {
        self.kraft_versions.last_key_value().map_or(0, |(_, version)| *version)
    }

    /// The voters as they were before `end_offset`, where the log says any: what a snapshot up to there holds.
    #[must_use]
    pub fn voters_before(&self, end_offset: Offset) -> Option<&VoterSet> {
        self.voters.range(..end_offset).next_back().map(|(_, voters)| voters)
    }

    /// The protocol's version before `end_offset`.
    #[must_use]
    pub fn kraft_version_before(&self, end_offset: Offset) -> i16 {
        self.kraft_versions.range(..end_offset).next_back().map_or(0, |(_, version)| *version)
    }

    /// A set of voters stands at `offset`.
    pub fn add_voters(&mut self, offset: Offset, voters: VoterSet) {
        self.voters.insert(offset, voters);
    }

    /// A version stands at `offset`.
    pub fn add_kraft_version(&mut self, offset: Offset, version: i16) {
        self.kraft_versions.insert(offset, version);
    }

    /// Takes note of what stands in `batches`, whole ones that are in the log from `from` on.
    pub fn read_control_records(&mut self, from: Offset, bytes: &[u8]) {
        let mut base = from;
        for batch in batches(bytes) {
            let Ok(batch) = batch else { return };
            if batch.header.is_control() {
                self.read_control_batch(base, &batch);
            }
            base = base + (batch.header.last_offset() - batch.header.base_offset) + 1;
        }
    }

    fn read_control_batch(&mut self, base: Offset, batch: &BatchRef<'_>) {
        let mut scratch = Scratch::default();
        let Ok(mut records) = batch.records(&InflateLimits::default(), &mut scratch) else { return };
        let mut offset = base;
        while let Some(Ok(record)) = records.next() {
            let kind = record.key.and_then(ControlKey::parse).map(|key| key.kind);
            let mut decoder = Decoder::new(Bytes::copy_from_slice(record.value.unwrap_or_default()));
            match kind {
                Some(ControlType::KRaftVersion) => {
                    if let Ok(record) = KRaftVersionRecord::decode(&mut decoder, 0) {
                        self.add_kraft_version(offset, record.kraft_version);
                    }
                }
                Some(ControlType::KRaftVoters) => {
                    if let Ok(record) = VotersRecord::decode(&mut decoder, 0) {
                        self.add_voters(offset, VoterSet::from_record(&record));
                    }
                }
                _ => {}
            }
            offset = offset.next();
        }
    }

    /// The log was cut off at `end_offset`.
    pub fn truncate(&mut self, end_offset: Offset) {
        self.voters.split_off(&end_offset);
        self.kraft_versions.split_off(&end_offset);
    }

    /// The log begins at `start_offset` now: of what stood before it only the last still matters.
    pub fn forget_before(&mut self, start_offset: Offset) {
        keep_last_before(&mut self.voters, start_offset);
        keep_last_before(&mut self.kraft_versions, start_offset);
    }

    /// Nothing of the log is left: what a snapshot says is added next.
    pub fn clear(&mut self) {
        self.voters.clear();
        self.kraft_versions.clear();
    }
}

fn keep_last_before<V>(history: &mut BTreeMap<Offset, V>, start_offset: Offset) {
    if let Some(last) = history.range(..=start_offset).next_back().map(|(offset, _)| *offset) {
        *history = history.split_off(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(id: i32, directory: u8) -> Voter {
        let endpoints = vec![Endpoint { name: "CONTROLLER".into(), host: "localhost".into(), port: 9093 }];
        Voter { key: ReplicaKey::new(id, Uuid([directory; 16])), endpoints, kraft_versions: (0, 1) }
    }

    #[test]
    fn a_set_survives_its_record() {
        let set: VoterSet = [voter(1, 1), voter(2, 2)].into_iter().collect();
        assert_eq!(VoterSet::from_record(&set.to_record()), set);
        assert_eq!((set.majority(), set.len()), (2, 2));
    }

    #[test]
    fn a_voter_with_another_directory_is_another_replica() {
        let set: VoterSet = [voter(1, 1)].into_iter().collect();
        assert!(set.contains(&ReplicaKey::new(1, Uuid([1; 16]))));
        assert!(set.contains(&ReplicaKey::new(1, NO_DIRECTORY)));
        assert!(!set.contains(&ReplicaKey::new(1, Uuid([2; 16]))));
    }

    #[test]
    fn sets_that_differ_by_more_than_one_voter_do_not_overlap() {
        let set: VoterSet = [voter(1, 1), voter(2, 2), voter(3, 3)].into_iter().collect();
        assert!(set.overlaps(&set.with(voter(4, 4))) && set.overlaps(&set.without(2)));
        assert!(!set.overlaps(&set.without(2).with(voter(4, 4))));
        assert!(!set.overlaps(&set.with(voter(2, 9))), "a swapped directory is one voter less and one more");
    }

    #[test]
    fn what_is_cut_off_the_log_counts_no_more() {
        let configured: VoterSet = [voter(1, 0)].into_iter().collect();
        let (one, two): (VoterSet, VoterSet) =
            ([voter(1, 1)].into_iter().collect(), [voter(1, 1), voter(2, 2)].into_iter().collect());
        let mut membership = Membership::new(configured.clone());
        membership.add_voters(Offset(3), one.clone());
        membership.add_voters(Offset(9), two.clone());
        assert_eq!(membership.voters(), &two);
        assert_eq!(membership.voters_before(Offset(9)), Some(&one));
        membership.truncate(Offset(9));
        assert_eq!(membership.voters(), &one);
        membership.forget_before(Offset(8));
        assert_eq!(membership.voters(), &one);
        membership.truncate(Offset(3));
        assert_eq!(membership.voters(), &configured);
    }
}
