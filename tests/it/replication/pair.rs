//! Partitions with real logs that lead and follow each other: what a fetch hands over, without a network.

use std::sync::Arc;

use bytes::Bytes;
use klamm::config::TopicConfig;
use klamm::metadata::PartitionRegistration;
use klamm::record::{BatchBuilder, Compression};
use klamm::replication::{
    Accepted, Acks, Isolation, Partition, PartitionError, Position, ReadOutcome, ReadSpec, ReplicaFetch,
    Sent, Surroundings, Taken,
};
use klamm::storage::{EpochEnd, Log, LogHome, LogOptions, RealDisk};
use klamm::types::{BrokerId, LeaderEpoch, ManualClock, Offset, TopicPartition, Uuid};

const NOW_MS: i64 = 1_800_000_000_000;

/// One broker's replica.
struct Replica {
    node: i32,
    partition: Partition,
    _folder: tempfile::TempDir,
}

fn registration(leader: i32, leader_epoch: i32, isr: &[i32]) -> PartitionRegistration {
    PartitionRegistration {
        replicas: vec![1, 2],
        isr: isr.to_vec(),
        leader,
        leader_epoch,
        partition_epoch: leader_epoch,
        ..PartitionRegistration::default()
    }
}

fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for value in values {
        builder.append(NOW_MS, None, Some(value.as_bytes()), []);
    }
    builder.build().unwrap()
}

impl Replica {
    fn new(node: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = TopicPartition::from_dir_name("t-0").unwrap();
        let home = LogHome::new(RealDisk::new());
        let (path, options) = (folder.path().join("t-0"), LogOptions::default());
        let log = Log::create(&home, &path, id.clone(), None, options, NOW_MS).unwrap();
        let surroundings = Arc::new(Surroundings::new(BrokerId(node), ManualClock::new(NOW_MS)));
        let config = Arc::new(TopicConfig { min_insync_replicas: 2, ..TopicConfig::default() });
        let partition = Partition::new(id, Uuid([1; 16]), surroundings, config, log);
        Self { node, partition, _folder: folder }
    }

    fn append(&self, values: &[&str]) -> Result<Accepted, PartitionError> {
        self.partition.append(&batch(values), Acks::All, NOW_MS)
    }

    fn position(&self) -> Position {
        self.partition.position().unwrap()
    }

    /// Asks `leader` once; what it answered.
    fn ask(&self, leader: &Replica) -> Result<ReadOutcome, PartitionError> {
        let at = self.position();
        let spec = ReadSpec {
            from: at.fetch_offset,
            max_bytes: 1 << 20,
            at_least_one: true,
            isolation: Isolation::Uncommitted,
            current_leader_epoch: at.leader_epoch.0,
            last_fetched_epoch: at.last_fetched_epoch.0,
            leader_only: true,
        };
        let fetch = ReplicaFetch {
            replica: self.node,
            broker_epoch: -1,
            fetch_offset: at.fetch_offset,
            log_start_offset: at.log_start_offset,
        };
        leader.partition.read_for_replica(&spec, &fetch, true).map(|(outcome, _)| outcome)
    }

    /// One round of fetching: asks, and stores or cuts as the answer says.
    fn fetch(&self, leader: &Replica) {
        let asked = self.position();
        let outcome = self.ask(leader).unwrap();
        if let Some((epoch, end_offset)) = outcome.diverging {
            self.partition.truncate_diverging(&asked, EpochEnd { epoch, end_offset }, NOW_MS).unwrap();
            return;
        }
        self.partition.append_fetched(&asked, &sent(&bytes_of(&outcome), &outcome), NOW_MS).unwrap();
    }

    fn end(&self) -> i64 {
        self.partition.with_log_anyway(|log| log.log_end_offset().0)
    }

    fn high_watermark(&self) -> i64 {
        self.partition.with_log_anyway(|log| log.high_watermark().0)
    }

    fn bytes(&self) -> Bytes {
        self.partition.with_log_anyway(|log| {
            let read = log.read(log.log_start_offset(), log.log_end_offset(), 1 << 20, true).unwrap();
            read.into_slice().unwrap().region.read().unwrap()
        })
    }

    fn read_as_consumer(&self, leader_only: bool) -> Result<usize, PartitionError> {
        let spec = ReadSpec {
            from: Offset(0),
            max_bytes: 1 << 20,
            at_least_one: true,
            isolation: Isolation::Uncommitted,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            leader_only,
        };
        self.partition.read(&spec).map(|outcome| outcome.len())
    }
}

fn bytes_of(outcome: &ReadOutcome) -> Bytes {
    outcome.region.as_ref().map_or_else(Bytes::new, |region| region.read().unwrap())
}

fn sent<'a>(bytes: &'a [u8], outcome: &ReadOutcome) -> Sent<'a> {
    Sent { bytes, high_watermark: outcome.high_watermark, log_start_offset: outcome.log_start_offset }
}

fn pair() -> (Replica, Replica) {
    let (one, two) = (Replica::new(1), Replica::new(2));
    for replica in [&one, &two] {
        assert!(replica.partition.assume(&registration(1, 1, &[1, 2])));
    }
    (one, two)
}

#[test]
fn with_acks_all_a_record_counts_when_the_followers_next_fetch_says_that_it_has_it() {
    let (leader, follower) = pair();
    let accepted = leader.append(&["a", "b"]).unwrap();
    assert!(accepted.must_replicate && !leader.partition.is_committed(&accepted).unwrap());
    assert_eq!(leader.read_as_consumer(true).unwrap(), 0, "nobody sees what is on one replica");
    follower.fetch(&leader);
    assert!(!leader.partition.is_committed(&accepted).unwrap());
    follower.fetch(&leader);
    assert!(leader.partition.is_committed(&accepted).unwrap());
    assert_eq!((leader.high_watermark(), follower.end(), follower.high_watermark()), (2, 2, 2));
    assert_eq!(leader.bytes(), follower.bytes());
}

#[test]
fn a_follower_serves_consumers_below_its_own_high_watermark_and_no_old_ones() {
    let (leader, follower) = pair();
    leader.append(&["a"]).unwrap();
    follower.fetch(&leader);
    assert_eq!(follower.read_as_consumer(false).unwrap(), 0);
    follower.fetch(&leader);
    assert!(follower.read_as_consumer(false).unwrap() > 0);
    assert!(matches!(follower.read_as_consumer(true), Err(PartitionError::NotLeader)));
    assert!(matches!(follower.append(&["x"]), Err(PartitionError::NotLeader)));
}

#[test]
fn too_few_in_sync_take_nothing_and_acknowledge_nothing() {
    let (leader, follower) = pair();
    let accepted = leader.append(&["a"]).unwrap();
    follower.fetch(&leader);
    follower.fetch(&leader);
    let mut alone = registration(1, 1, &[1]);
    alone.partition_epoch = 2;
    assert!(!leader.partition.assume(&alone));
    assert!(matches!(leader.append(&["b"]), Err(PartitionError::TooFewInSync { in_sync: 1, min: 2 })));
    assert!(matches!(leader.partition.is_committed(&accepted), Err(PartitionError::TooFewAfterAppend)));
    assert!(leader.partition.append(&batch(&["c"]), Acks::Leader, NOW_MS).is_ok());
    assert_eq!(leader.high_watermark(), 1, "what one replica has is not committed");
}

#[test]
fn kip_320_who_asks_with_another_leader_epoch_is_told() {
    let (leader, follower) = pair();
    leader.partition.assume(&registration(1, 3, &[1, 2]));
    assert!(matches!(follower.ask(&leader), Err(PartitionError::FencedLeaderEpoch { .. })));
    follower.partition.assume(&registration(1, 4, &[1, 2]));
    assert!(matches!(follower.ask(&leader), Err(PartitionError::UnknownLeaderEpoch { .. })));
    assert!(!leader.partition.assume(&registration(2, 2, &[1, 2])), "an older registration changes nothing");
    assert!(leader.partition.is_leader());
}

#[test]
fn kafka_6361_logs_that_went_apart_come_together_byte_for_byte() {
    let (one, two) = pair();
    one.append(&["both"]).unwrap();
    two.fetch(&one);
    // The first leads on alone, and the second takes over without its records; then the same the other way round.
    one.append(&["one, lost"]).unwrap();
    one.append(&["one, lost as well"]).unwrap();
    two.partition.assume(&registration(2, 2, &[2]));
    two.partition.append(&batch(&["two"]), Acks::Leader, NOW_MS).unwrap();
    one.partition.assume(&registration(1, 3, &[1]));
    one.partition.append(&batch(&["one again"]), Acks::Leader, NOW_MS).unwrap();
    two.partition.assume(&registration(2, 4, &[2]));
    two.partition.append(&batch(&["two again"]), Acks::Leader, NOW_MS).unwrap();
    one.partition.assume(&registration(2, 4, &[2]));
    for _ in 0..8 {
        one.fetch(&two);
    }
    assert_eq!(one.bytes(), two.bytes());
    assert_eq!(one.end(), 3);
    let epochs = |replica: &Replica| replica.partition.with_log_anyway(|log| log.leader_epochs().clone());
    assert_eq!(epochs(&one), epochs(&two));
}

#[test]
fn kafka_18723_corrupt_bytes_are_refused_and_never_stored() {
    let (leader, follower) = pair();
    leader.append(&["whole"]).unwrap();
    leader.append(&["to be damaged"]).unwrap();
    let asked = follower.position();
    let outcome = follower.ask(&leader).unwrap();
    let mut bytes = bytes_of(&outcome).to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let refused = follower.partition.append_fetched(&asked, &sent(&bytes, &outcome), NOW_MS);
    assert!(matches!(refused, Err(PartitionError::Append(_))), "{refused:?}");
    assert!(follower.end() <= 1);
    while follower.end() < 2 {
        follower.fetch(&leader);
    }
    assert_eq!(leader.bytes(), follower.bytes());
    // What is of a younger epoch than the leader's is not this leader's.
    leader.partition.assume(&registration(1, 2, &[1, 2]));
    leader.append(&["younger"]).unwrap();
    let asked = follower.position();
    let younger = leader.bytes().slice(follower.bytes().len()..);
    let outcome = ReadOutcome { high_watermark: Offset(2), ..outcome };
    let taken = follower.partition.append_fetched(&asked, &sent(&younger, &outcome), NOW_MS).unwrap();
    assert_eq!((taken, follower.end()), (Taken::Done { bytes: 0, must_flush: false }, 2));
}

#[test]
fn an_answer_of_an_earlier_leader_does_nothing() {
    let (leader, follower) = pair();
    leader.append(&["a"]).unwrap();
    let asked = follower.position();
    let outcome = follower.ask(&leader).unwrap();
    follower.partition.assume(&registration(1, 2, &[1, 2]));
    let taken = follower.partition.append_fetched(&asked, &sent(&bytes_of(&outcome), &outcome), NOW_MS);
    assert_eq!((taken.unwrap(), follower.end()), (Taken::Ignored, 0));
    let nothing = EpochEnd { epoch: LeaderEpoch(0), end_offset: Offset(0) };
    assert_eq!(follower.partition.truncate_diverging(&asked, nothing, NOW_MS).unwrap(), None);
}

#[test]
fn a_new_follower_begins_in_the_middle_of_a_batch_where_the_leaders_log_starts_there() {
    let (leader, follower) = pair();
    leader.append(&["a", "b", "c"]).unwrap();
    follower.fetch(&leader);
    follower.fetch(&leader);
    assert_eq!(leader.partition.delete_records_before(Some(Offset(2))).unwrap(), Offset(2));
    assert_eq!(leader.partition.low_watermark().unwrap(), Some(Offset(2)), "nobody is known to be alive");
    let fresh = Replica::new(2);
    fresh.partition.assume(&registration(1, 1, &[1, 2]));
    assert!(fresh.ask(&leader).is_err(), "it has nothing that the leader still has");
    let asked = fresh.position();
    let offsets = klamm::replication::LogOffsets {
        start: Offset(2),
        end: Offset(3),
        held: Offset(3),
        high_watermark: Offset(3),
    };
    fresh.partition.resume_within(&asked, &offsets, NOW_MS).unwrap();
    fresh.fetch(&leader);
    fresh.fetch(&leader);
    assert_eq!(fresh.bytes(), leader.bytes());
    let start = fresh.partition.with_log_anyway(|log| log.log_start_offset());
    assert_eq!((start, fresh.end(), fresh.high_watermark()), (Offset(2), 3, 3));
}
