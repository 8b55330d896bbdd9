//! What the quorum has agreed on, batch by batch, with the image that it adds up to; and what must be true of each image
//! and of each step from one to the next.

use std::sync::Arc;

use klamm::controller::quorum::RoleName;
use klamm::metadata::{Image, PartitionRegistration, Replay};
use klamm::record::Batch;
use klamm::types::{LeaderEpoch, Offset};

use super::truth::Truth;
use super::world::{PARTITIONS, TOPIC, World};

/// A batch that was agreed on.
struct AgreedBatch {
    end: Offset,
    epoch: LeaderEpoch,
    crc: u32,
    /// Of this batch and all before it.
    digest: u64,
    image: Arc<Image>,
}

/// See the module.
#[derive(Default)]
pub struct Agreed {
    batches: Vec<AgreedBatch>,
}

impl Agreed {
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Where the first `count` batches end.
    fn end_of(&self, count: usize) -> Offset {
        count.checked_sub(1).map_or(Offset::ZERO, |last| self.batches[last].end)
    }

    pub fn end(&self) -> Offset {
        self.end_of(self.len())
    }

    /// How many batches end at or before `offset`.
    pub fn position(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.end <= offset)
    }

    /// What the first `count` batches add up to.
    pub fn image(&self, count: usize) -> Arc<Image> {
        count.checked_sub(1).map_or_else(Arc::default, |last| Arc::clone(&self.batches[last].image))
    }

    /// The digest of everything before `end`, where a batch ends there.
    pub fn digest_at(&self, end: Offset) -> Option<u64> {
        if end == Offset::ZERO {
            return Some(0);
        }
        let at = self.position(end).checked_sub(1)?;
        (self.batches[at].end == end).then(|| self.batches[at].digest)
    }

    pub fn newest(&self) -> Arc<Image> {
        self.image(self.len())
    }
}

fn digest(before: u64, epoch: LeaderEpoch, crc: u32) -> u64 {
    let mut mixed = before ^ (u64::from(epoch.0 as u32) << 32) ^ u64::from(crc);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

impl World {
    /// Takes a node along to its high watermark. ConsistentCommittedData: what is before it is the same everywhere, for
    /// ever.
    pub fn follow_agreed(&mut self, node: usize, high_watermark: Offset) {
        if self.agreed.end_of(self.nodes[node].agreed) >= high_watermark {
            return;
        }
        let directory = std::rc::Rc::clone(&self.nodes[node].directory);
        let directory = directory.borrow();
        let mut count = self.nodes[node].agreed;
        if self.agreed.end_of(count) < directory.start {
            // A snapshot was taken over.
            count = self.agreed.position(directory.start);
            let snapshot = directory.snapshots.last_key_value().map(|(_, snapshot)| snapshot.digest);
            if snapshot.is_none() || self.agreed.digest_at(directory.start) != snapshot {
                self.broken(&format!(
                    "ConsistentCommittedData: the snapshot of node {} holds something else",
                    node + 1
                ));
            }
        }
        let from = directory.position(self.agreed.end_of(count));
        for entry in directory.entries[from..].iter().take_while(|entry| entry.next <= high_watermark) {
            let is_known = count < self.agreed.len();
            if is_known {
                let known = &self.agreed.batches[count];
                if (known.end, known.epoch, known.crc) != (entry.next, entry.epoch, entry.crc) {
                    self.broken(&format!(
                        "ConsistentCommittedData: the batch before {} of node {} is another one",
                        entry.next,
                        node + 1
                    ));
                }
            } else {
                self.agree(entry.base, entry.next, entry.epoch, entry.crc, &entry.bytes);
            }
            count += 1;
        }
        self.nodes[node].agreed = count;
    }

    fn agree(&mut self, base: Offset, end: Offset, epoch: LeaderEpoch, crc: u32, bytes: &bytes::Bytes) {
        let before = self.agreed.newest();
        if self.agreed.end() != base {
            self.broken(&format!("a hole before {base} in the metadata"));
        }
        let mut replay = Replay::of(&before);
        let taken = Batch::first(bytes).map_err(|error| error.to_string());
        if let Err(why) = taken.and_then(|batch| replay.take(&batch).map_err(|error| error.to_string())) {
            self.broken(&format!("the image cannot take what was agreed on: {why}"));
        }
        let image = Arc::new(replay.finish());
        self.check_step(&before, &image);
        let digest = digest(self.agreed.digest_at(base).unwrap_or_default(), epoch, crc);
        self.agreed.batches.push(AgreedBatch { end, epoch, crc, digest, image });
    }

    /// What was decided is what its records say.
    pub fn check_decided(&self, node: usize, image: &Image) {
        let agreed = self.agreed.image(self.agreed.position(image.end_offset()));
        if *agreed != *image {
            self.broken(&format!(
                "node {} decided on another image than its records say, at {}",
                node + 1,
                image.end_offset()
            ));
        }
    }

    /// Every change of a partition is one that may be: epochs grow, the leader is in sync and serves, nobody leads who
    /// may lack what was committed.
    fn check_step(&mut self, before: &Image, after: &Image) {
        self.note_unclean_starts(before, after);
        let Some(topic) = after.topic(TOPIC) else { return };
        let earlier = before.topic_by_id(topic.id);
        if earlier.is_some_and(|earlier| Arc::ptr_eq(earlier, topic)) && before.brokers() == after.brokers() {
            return;
        }
        if self.truths.last().is_none_or(|(id, _)| *id != topic.id) {
            self.truths.push((topic.id, (0..PARTITIONS).map(|_| Truth::default()).collect()));
        }
        for (index, now) in &topic.partitions {
            let then = earlier.and_then(|topic| topic.partitions.get(index));
            let sound = check_partition(after, now)
                .and_then(|()| then.map_or(Ok(()), |then| check_change(after, then, now)));
            if let Err(why) = sound {
                self.broken(&format!("{TOPIC}-{index}: {why}: {then:?} -> {now:?}"));
            }
            if then != Some(now) {
                self.note(|| {
                    format!(
                        "agreed: {TOPIC}-{index} leader {} of epoch {}, isr {:?}, eligible {:?}, last {:?}, replicas {:?}, \
                         partition epoch {}",
                        now.leader,
                        now.leader_epoch,
                        now.isr,
                        now.eligible_leader_replicas,
                        now.last_known_elr,
                        now.replicas,
                        now.partition_epoch
                    )
                });
            }
            if let Some((_, truths)) = self.truths.last_mut() {
                let truth = &mut truths[*index as usize];
                truth.register(now);
                let was_last_known = |then: &PartitionRegistration| {
                    !then.isr.contains(&now.leader)
                        && !then.eligible_leader_replicas.contains(&now.leader)
                        && then.last_known_elr.contains(&now.leader)
                };
                if now.leader != -1 && then.is_some_and(was_last_known) {
                    truth.take_last_known(now.leader_epoch);
                }
            }
        }
    }

    /// Whoever is registered as another process than before, and did not end cleanly, may have lost what it had.
    fn note_unclean_starts(&mut self, before: &Image, after: &Image) {
        for (id, broker) in after.brokers() {
            let state = &mut self.nodes[*id as usize - 1];
            let is_newly_registered = before.broker(*id).is_none_or(|known| known.epoch != broker.epoch);
            let is_this_life = broker.incarnation_id == state.incarnation;
            if is_newly_registered && is_this_life && state.clean_mark.is_none() {
                state.unclean_start = Some(self.steps);
            }
        }
    }

    /// What Kafka's own simulation asks of the quorum, for the node to which something has just happened.
    pub fn check_quorum(&mut self, node: usize) {
        let Some(quorum) = &self.nodes[node].quorum else { return };
        let (role, epoch) = (quorum.role(), quorum.epoch());
        let high_watermark = quorum.high_watermark();
        if role == RoleName::Leader {
            let now = self.now;
            let first = self.leaders.entry(epoch).or_insert((node, now)).0;
            if first != node {
                let (first, second) = (first + 1, node + 1);
                self.broken(&format!("SingleLeader: {first} and {second} lead in epoch {epoch}"));
            }
            self.check_still_leads(node, epoch);
        }
        let Some(high_watermark) = high_watermark else { return };
        let known = self.nodes[node].high_watermark;
        if high_watermark < known {
            self.broken(&format!("MonotonicHighWatermark: node {} goes back to {high_watermark}", node + 1));
        }
        if high_watermark == known {
            return;
        }
        self.nodes[node].high_watermark = high_watermark;
        self.check_log_start(node);
        if role == RoleName::Leader {
            self.check_majority(node, high_watermark);
        }
    }

    /// A leader that another one has followed resigns before long, whoever it hears.
    fn check_still_leads(&self, node: usize, epoch: LeaderEpoch) {
        let Some((_, (other, since))) = self.leaders.range(LeaderEpoch(epoch.0 + 1)..).next() else { return };
        if self.now - since > super::world::LEADS_ON_MS_MAX && self.nodes[node].paused_until < *since {
            let (node, other) = (node + 1, other + 1);
            self.broken(&format!("{node} goes on leading in epoch {epoch}, long after {other} was elected"));
        }
    }

    /// SnapshotAtLogStart, and LeaderNeverLoadSnapshot.
    fn check_log_start(&self, node: usize) {
        let directory = self.nodes[node].directory.borrow();
        let starts = || directory.snapshots.keys().any(|id| id.end_offset == directory.start);
        if directory.start > Offset::ZERO && !starts() {
            self.broken("SnapshotAtLogStart: the log begins where no snapshot ends");
        }
    }

    /// MajorityReachedHighWatermark: what a leader counts is on the disks of a majority.
    fn check_majority(&self, node: usize, high_watermark: Offset) {
        let Some(quorum) = &self.nodes[node].quorum else { return };
        let voters = quorum.membership().voters();
        let has = |voter: &&klamm::controller::quorum::Voter| {
            let state = &self.nodes[voter.key.id as usize - 1];
            let directory = state.directory.borrow();
            let synced =
                directory.entries[..directory.synced].last().map_or(directory.start, |entry| entry.next);
            // One whose directory was lost since then had it when it said so.
            let is_another =
                !voter.key.directory_id.is_zero() && voter.key.directory_id != state.directory_id;
            synced >= high_watermark || is_another
        };
        if voters.iter().filter(has).count() < voters.majority() {
            self.broken(&format!("MajorityReachedHighWatermark: {high_watermark} of node {}", node + 1));
        }
    }
}

fn check_partition(image: &Image, partition: &PartitionRegistration) -> Result<(), &'static str> {
    let PartitionRegistration { replicas, isr, eligible_leader_replicas: eligible, leader, .. } = partition;
    let is_active = |id: &i32| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let rules = [
        (isr.iter().chain(eligible).all(|id| replicas.contains(id)), "who is in sync holds no replica"),
        (eligible.iter().all(|id| !isr.contains(id)), "somebody is in sync and eligible"),
        (*leader == -1 || isr.contains(leader), "the leader is not in sync"),
        (*leader == -1 || is_active(leader), "the leader is fenced"),
        (isr.iter().all(is_active), "a broker that is fenced is in sync"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}

fn check_change(
    after: &Image,
    then: &PartitionRegistration,
    now: &PartitionRegistration,
) -> Result<(), &'static str> {
    let may_lead = |id: &i32| {
        let last = &then.last_known_elr;
        // The change that completes a move may take the old leader away and the last new replica in.
        let moved = then.replicas != now.replicas && now.adding_replicas.is_empty();
        then.isr.contains(id)
            || then.eligible_leader_replicas.contains(id)
            || last.contains(id)
            || (moved && now.isr.contains(id) && now.leader_recovery_state == then.leader_recovery_state)
    };
    let comes_in = now.isr.iter().filter(|id| !then.isr.contains(id) && now.leader != **id);
    let is_active = |id: &i32| after.broker(*id).is_some_and(|it| !it.fenced && !it.in_controlled_shutdown);
    let rules = [
        (now.leader_epoch >= then.leader_epoch, "the leader's epoch goes back"),
        (now.partition_epoch > then.partition_epoch || now == then, "a change does not count"),
        (
            now.leader == then.leader || now.leader_epoch > then.leader_epoch,
            "another leader in the same epoch",
        ),
        (now.leader == then.leader || now.leader == -1 || may_lead(&now.leader), "an unclean election"),
        (comes_in.into_iter().all(is_active), "somebody came in who does not serve"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}
