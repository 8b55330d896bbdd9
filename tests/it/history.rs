//! What Jepsen's Kafka workload looks for in a history of sends and polls, for consumers that are assigned their
//! partitions. The history is written down by the test that runs the clients; here it is only judged.

use std::collections::{BTreeMap, BTreeSet};

/// One thing that a client did, as far as the client knows. Values are unique over the whole history.
#[derive(Clone, Debug)]
pub enum Op {
    /// A record was sent by `process` to `partition`.
    Send { process: u32, partition: i32, value: u64, outcome: Outcome },
    /// `process` was given these records of `partition`, as (offset, value).
    Poll { process: u32, partition: i32, records: Vec<(i64, u64)> },
}

/// How a send ended for the one who sent.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// Acknowledged, at this offset where the answer named one.
    Acknowledged(Option<i64>),
    /// Nobody knows: it may be in the log or not.
    Unknown,
}

/// What must not be in a history. Each names the partition first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// An acknowledged value below the highest offset read, which nobody read.
    LostWrite(i32, u64),
    /// An acknowledged value that nobody had read when all polls had ended.
    Unseen(i32, u64),
    /// Two values at one offset.
    InconsistentOffsets(i32, i64, BTreeSet<u64>),
    /// One value at two offsets.
    Duplicate(i32, u64, BTreeSet<i64>),
    /// A process was given an offset that is not above the one before.
    NonmonotonicPoll(i32, i64, i64),
    /// A process was given two neighbouring records, and others stand between them.
    PollSkip(i32, i64, i64),
    /// A process sent one value after another, and they stand the other way round.
    NonmonotonicSend(i32, u64, u64),
}

/// All anomalies of a history that has ended with polls up to the end of each partition.
pub fn anomalies(history: &[Op]) -> Vec<Anomaly> {
    let places = Places::of(history);
    let mut found = Vec::new();
    found.extend(inconsistent_offsets(&places));
    found.extend(duplicates(&places));
    found.extend(lost_and_unseen(history, &places));
    found.extend(polls(history, &places));
    found.extend(sends(history, &places));
    found
}

/// Where every value was seen, by an acknowledgement or a poll.
#[derive(Default)]
struct Places {
    by_offset: BTreeMap<(i32, i64), BTreeSet<u64>>,
    by_value: BTreeMap<(i32, u64), BTreeSet<i64>>,
    polled: BTreeSet<(i32, u64)>,
    highest_polled: BTreeMap<i32, i64>,
}

impl Places {
    fn of(history: &[Op]) -> Places {
        let mut places = Places::default();
        for op in history {
            match op {
                Op::Send { partition, value, outcome: Outcome::Acknowledged(Some(offset)), .. } => {
                    places.note(*partition, *offset, *value);
                }
                Op::Send { .. } => {}
                Op::Poll { partition, records, .. } => {
                    for (offset, value) in records {
                        places.note(*partition, *offset, *value);
                        places.polled.insert((*partition, *value));
                        let highest = places.highest_polled.entry(*partition).or_insert(*offset);
                        *highest = (*highest).max(*offset);
                    }
                }
            }
        }
        places
    }

    fn note(&mut self, partition: i32, offset: i64, value: u64) {
        self.by_offset.entry((partition, offset)).or_default().insert(value);
        self.by_value.entry((partition, value)).or_default().insert(offset);
    }

    fn first_offset(&self, partition: i32, value: u64) -> Option<i64> {
        self.by_value.get(&(partition, value)).and_then(|offsets| offsets.first().copied())
    }
}

fn inconsistent_offsets(places: &Places) -> impl Iterator<Item = Anomaly> {
    places
        .by_offset
        .iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(&(partition, offset), values)| Anomaly::InconsistentOffsets(partition, offset, values.clone()))
}

fn duplicates(places: &Places) -> impl Iterator<Item = Anomaly> {
    places
        .by_value
        .iter()
        .filter(|(_, offsets)| offsets.len() > 1)
        .map(|(&(partition, value), offsets)| Anomaly::Duplicate(partition, value, offsets.clone()))
}

/// An acknowledged value that nobody read is lost if others were read behind it, else it is unseen.
fn lost_and_unseen(history: &[Op], places: &Places) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for op in history {
        let Op::Send { partition, value, outcome: Outcome::Acknowledged(_), .. } = op else { continue };
        if places.polled.contains(&(*partition, *value)) {
            continue;
        }
        let place = places.first_offset(*partition, *value);
        let read_beyond =
            place.zip(places.highest_polled.get(partition)).is_some_and(|(at, highest)| at <= *highest);
        found.push(match read_beyond {
            true => Anomaly::LostWrite(*partition, *value),
            false => Anomaly::Unseen(*partition, *value),
        });
    }
    found
}

fn polls(history: &[Op], places: &Places) -> Vec<Anomaly> {
    let mut last: BTreeMap<(u32, i32), i64> = BTreeMap::new();
    let mut found = Vec::new();
    for op in history {
        let Op::Poll { process, partition, records } = op else { continue };
        for &(offset, _) in records {
            let Some(before) = last.insert((*process, *partition), offset) else { continue };
            if offset <= before {
                found.push(Anomaly::NonmonotonicPoll(*partition, before, offset));
            } else if places.by_offset.range((*partition, before + 1)..(*partition, offset)).next().is_some()
            {
                found.push(Anomaly::PollSkip(*partition, before, offset));
            }
        }
    }
    found
}

fn sends(history: &[Op], places: &Places) -> Vec<Anomaly> {
    let mut last: BTreeMap<(u32, i32), (u64, i64)> = BTreeMap::new();
    let mut found = Vec::new();
    for op in history {
        let Op::Send { process, partition, value, .. } = op else { continue };
        let Some(offset) = places.first_offset(*partition, *value) else { continue };
        if let Some((earlier, at)) = last.insert((*process, *partition), (*value, offset))
            && offset <= at
        {
            found.push(Anomaly::NonmonotonicSend(*partition, earlier, *value));
        }
    }
    found
}

fn send(process: u32, value: u64, offset: i64) -> Op {
    Op::Send { process, partition: 0, value, outcome: Outcome::Acknowledged(Some(offset)) }
}

fn poll(process: u32, records: &[(i64, u64)]) -> Op {
    Op::Poll { process, partition: 0, records: records.to_vec() }
}

#[test]
fn a_sound_history_has_no_anomaly() {
    let unknown = Op::Send { process: 1, partition: 0, value: 13, outcome: Outcome::Unknown };
    let duplicate = Op::Send { process: 1, partition: 0, value: 12, outcome: Outcome::Acknowledged(None) };
    let history = [
        send(1, 10, 0),
        send(2, 11, 1),
        duplicate,
        unknown,
        poll(3, &[(0, 10), (1, 11)]),
        poll(3, &[(2, 12)]),
    ];
    assert_eq!(anomalies(&history), []);
}

#[test]
fn s1_2_lost_write_is_an_acknowledged_value_that_readers_passed() {
    let history = [send(1, 10, 0), send(1, 11, 1), send(1, 12, 2), poll(2, &[(0, 10)]), poll(3, &[(2, 12)])];
    assert_eq!(anomalies(&history), [Anomaly::LostWrite(0, 11)]);
}

#[test]
fn s1_2_unseen_is_an_acknowledged_value_behind_all_that_was_read() {
    let history = [send(1, 10, 0), send(1, 11, 1), poll(2, &[(0, 10)])];
    assert_eq!(anomalies(&history), [Anomaly::Unseen(0, 11)]);
}

#[test]
fn s1_2_inconsistent_offsets_are_two_values_at_one_offset() {
    let history = [poll(1, &[(0, 10), (1, 11)]), poll(2, &[(0, 10), (1, 12)])];
    assert_eq!(anomalies(&history), [Anomaly::InconsistentOffsets(0, 1, [11, 12].into())]);
}

#[test]
fn s1_2_duplicate_is_one_value_at_two_offsets() {
    let history = [send(1, 10, 0), poll(2, &[(0, 10), (1, 10)])];
    assert_eq!(anomalies(&history), [Anomaly::Duplicate(0, 10, [0, 1].into())]);
}

#[test]
fn s1_2_nonmonotonic_poll_is_a_reader_that_went_back() {
    let history = [poll(1, &[(0, 10), (1, 11)]), poll(1, &[(1, 11)])];
    assert_eq!(anomalies(&history), [Anomaly::NonmonotonicPoll(0, 1, 1)]);
}

#[test]
fn s1_2_poll_skip_is_a_reader_that_jumped_over_what_another_saw() {
    let history = [poll(1, &[(0, 10), (1, 11), (2, 12)]), poll(2, &[(0, 10)]), poll(2, &[(2, 12)])];
    assert_eq!(anomalies(&history), [Anomaly::PollSkip(0, 0, 2)]);
    let hole = [poll(1, &[(0, 10)]), poll(1, &[(5, 12)])];
    assert_eq!(anomalies(&hole), [], "offsets where nobody saw anything are no records");
}

#[test]
fn s1_2_nonmonotonic_send_is_a_producer_whose_values_stand_reversed() {
    let history = [send(1, 10, 1), send(1, 11, 0), poll(2, &[(0, 11), (1, 10)])];
    assert_eq!(anomalies(&history), [Anomaly::NonmonotonicSend(0, 10, 11)]);
}
