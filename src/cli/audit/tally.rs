//! What one end of a pipeline has counted: records by topic and by the minute of their own timestamps, so that both ends
//! put a record into the same bucket, however late the second one is. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// How long a bucket is.
pub const BUCKET_MS: i64 = 60_000;
/// The version of what is written.
pub const VERSION: u32 = 1;

/// Which end counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Records that were acknowledged.
    Produced,
    /// Records that were read.
    Consumed,
}

/// The first and the last offset of a partition that a bucket has, and how many.
pub type Span = (i64, i64, u64);

/// One record of the monitoring topic: what a session has counted in a bucket so far, or where `topic` is not there,
/// that it is still at work, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// [`VERSION`].
    pub audit: u32,
    /// Which end.
    pub side: Side,
    /// What the end calls itself.
    pub name: String,
    /// One run of a command.
    pub session: String,
    /// When the session began to count.
    pub since: i64,
    /// When this was said.
    pub at: i64,
    /// The session has ended, and everything it counted was said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// What was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// A bucket of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The topic.
    pub topic: String,
    /// When the bucket begins.
    pub bucket: i64,
    /// What is in it.
    #[serde(rename = "counts")]
    pub bucket_counts: Bucket,
}

/// What a session has counted in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Records.
    pub count: u64,
    /// Records that may be in the log or not: the answer did not come.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u64,
    /// Records that were counted more than a minute after the bucket's end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u64,
    /// A sum over the places of all records: equal where they are the same records. None where places are not known.
    pub digest: Option<String>,
    /// By partition.
    pub offsets: BTreeMap<i32, Span>,
    #[serde(skip)]
    sum: u64,
    #[serde(skip)]
    unplaced: u64,
    #[serde(skip)]
    is_changed: bool,
}

impl Bucket {
    /// How many records there are at most.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.count.saturating_add(self.unknown)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tally {
    topics: HashMap<String, BTreeMap<i64, Bucket>>,
}

impl Tally {
    /// Counts a record; its offset may not be known.
    pub fn count(&mut self, topic: &str, place: (i32, Option<i64>), timestamp_ms: i64, now_ms: i64) {
        let (bucket, is_late) = self.bucket(topic, timestamp_ms, now_ms);
        bucket.count += 1;
        bucket.late += u64::from(is_late);
        match place {
            (partition, Some(offset)) => {
                bucket.sum = bucket.sum.wrapping_add(digest_of(partition, offset));
                let span = bucket.offsets.entry(partition).or_insert((offset, offset, 0));
                *span = (span.0.min(offset), span.1.max(offset), span.2 + 1);
            }
            (_, None) => bucket.unplaced += 1,
        }
    }

    /// Counts a record of which nobody knows whether it was written.
    pub fn unknown(&mut self, topic: &str, timestamp_ms: i64, now_ms: i64) {
        self.bucket(topic, timestamp_ms, now_ms).0.unknown += 1;
    }

    fn bucket(&mut self, topic: &str, timestamp_ms: i64, now_ms: i64) -> (&mut Bucket, bool) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let begins = timestamp_ms.div_euclid(BUCKET_MS).saturating_mul(BUCKET_MS);
        let bucket = self.topics.entry(topic.to_owned()).or_default().entry(begins).or_default();
        bucket.is_changed = true;
        (bucket, now_ms >= begins.saturating_add(2 * BUCKET_MS))
    }

    /// What has changed since this was asked last.
    pub fn changed(&mut self) -> Vec<Counted> {
        let mut changed = Vec::new();
        for (topic, buckets) in &mut self.topics {
            for (begins, bucket) in buckets.iter_mut().filter(|(_, bucket)| bucket.is_changed) {
                bucket.is_changed = false;
                let mut bucket_counts = bucket.clone();
                bucket_counts.digest = (bucket.unplaced == 0).then(|| format!("{:016x}", bucket.sum));
                changed.push(Counted { topic: topic.clone(), bucket: *begins, bucket_counts });
            }
        }
        changed.sort_by(|one, other| (&one.topic, one.bucket).cmp(&(&other.topic, other.bucket)));
        changed
    }
}

/// A number for a place; sums of them are equal where the places are, but for one chance in 2^64.
fn digest_of(partition: i32, offset: i64) -> u64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(u64::from(partition.cast_unsigned())) ^ offset.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_come_to_the_same_in_any_order_and_a_lost_record_shows() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        let records: Vec<(i32, i64, i64)> = (0..100).map(|n| ((n % 3) as i32, n, n * 1_000)).collect();
        for &(partition, offset, at) in &records {
            one.count("t", (partition, Some(offset)), at, at);
        }
        for &(partition, offset, at) in records.iter().rev() {
            other.count("t", (partition, Some(offset)), at, 1_000_000);
        }
        let (one, other) = (one.changed(), other.changed());
        assert_eq!(
            one.iter().map(|c| (c.bucket, c.bucket_counts.count)).collect::<Vec<_>>(),
            [(0, 60), (60_000, 40)]
        );
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one.bucket_counts.digest, other.bucket_counts.digest);
            assert_eq!(one.bucket_counts.offsets, other.bucket_counts.offsets);
            assert_eq!((one.bucket_counts.late, other.bucket_counts.late), (0, other.bucket_counts.count));
        }
        let mut third = Tally::default();
        for &(partition, offset, at) in &records[..60] {
            // One record twice instead of another.
            third.count("t", (partition, Some(if offset == 8 { 5 } else { offset })), at, at);
        }
        assert_ne!(third.changed()[0].bucket_counts.digest, one[0].bucket_counts.digest);
    }

    #[test]
    fn only_what_changed_is_said_again_and_an_unknown_place_leaves_no_digest() {
        let mut tally = Tally::default();
        tally.count("t", (0, Some(1)), 5, 5);
        assert_eq!(tally.changed().len(), 1);
        assert_eq!(tally.changed(), []);
        tally.count("t", (0, None), 6, 6);
        tally.unknown("t", 7, 7);
        let [changed] = tally.changed().try_into().unwrap();
        assert_eq!((changed.bucket_counts.count, changed.bucket_counts.unknown), (2, 1));
        assert_eq!(changed.bucket_counts.digest, None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut tally = Tally::default();
        tally.count("t", (4, Some(1)), 5, 5);
        let count = Count {
            audit: VERSION,
            side: Side::Consumed,
            name: "n".into(),
            session: "s".into(),
            since: 1,
            at: 2,
            closed: false,
            counted: tally.changed().pop(),
        };
        let text = serde_json::to_string(&count).unwrap();
        let read: Count = serde_json::from_str(&text).unwrap();
        assert_eq!(read.counted.as_ref().map(|c| c.bucket_counts.offsets[&4]), Some((1, 1, 1)), "{text}");
        let ended = Count { closed: true, counted: None, ..count };
        let text = serde_json::to_string(&ended).unwrap();
        assert_eq!(serde_json::from_str::<Count>(&text).unwrap(), ended, "{text}");
    }
}
