//! Which partition a record goes to, so that each key stays where other clients put it.

use std::str::FromStr;

/// How a record without a partition of its own finds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// Java's default: keys by murmur2, records without a key stick to a partition per batch.
    #[default]
    Murmur2,
    /// librdkafka's `consistent`: keys by CRC-32, records without a key stick to a partition per batch.
    Crc32,
    /// Any partition, record by record, whatever the key.
    Random,
    /// One partition after the other, record by record, whatever the key.
    RoundRobin,
}

impl Partitioner {
    /// Every name of the command line.
    pub const NAMES: [&'static str; 4] = ["murmur2", "crc32", "random", "round-robin"];
}

impl FromStr for Partitioner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "murmur2" | "murmur2_random" => Ok(Self::Murmur2),
            "crc32" | "consistent" | "consistent_random" => Ok(Self::Crc32),
            "random" => Ok(Self::Random),
            "round-robin" | "org.apache.kafka.clients.producer.RoundRobinPartitioner" => Ok(Self::RoundRobin),
            _ => Err(format!("{text:?} is not a partitioner: {} are", Self::NAMES.join(", "))),
        }
    }
}

/// Draws partitions for one topic. Not shared: each producer has its own.
#[derive(Debug)]
pub(crate) struct Draw {
    partitioner: Partitioner,
    random: Random,
    next: usize,
    sticky: Option<usize>,
}

impl Draw {
    /// `seed` decides where sticky and random draws begin.
    pub(crate) fn new(partitioner: Partitioner, seed: u64) -> Self {
        let random = Random(seed | 1);
        Self { partitioner, random, next: 0, sticky: None }
    }

    /// The partition of a record, among `count` (above 0) of which `usable` says whether one has a leader.
    /// Keys hash over all partitions, usable or not: where a key belongs does not change with the weather.
    pub(crate) fn partition(
        &mut self,
        key: Option<&[u8]>,
        count: usize,
        usable: impl Fn(usize) -> bool,
    ) -> usize {
        match (self.partitioner, key) {
            (Partitioner::Murmur2, Some(key)) => (murmur2(key) & 0x7fff_ffff) as usize % count,
            (Partitioner::Crc32, Some(key)) => crc32(key) as usize % count,
            (Partitioner::Murmur2 | Partitioner::Crc32, None) => match self.sticky {
                Some(sticky) if sticky < count => sticky,
                _ => {
                    let drawn = self.random_usable(count, &usable);
                    *self.sticky.insert(drawn)
                }
            },
            (Partitioner::Random, _) => self.random_usable(count, &usable),
            (Partitioner::RoundRobin, _) => {
                let turn = (self.next..self.next + count).map(|n| n % count).find(|&n| usable(n));
                let turn = turn.unwrap_or(self.next % count);
                self.next = turn + 1;
                turn
            }
        }
    }

    /// Whether such records stay with a partition until its batch is full.
    pub(crate) fn is_sticky(&self, key: Option<&[u8]>) -> bool {
        key.is_none() && matches!(self.partitioner, Partitioner::Murmur2 | Partitioner::Crc32)
    }

    /// A batch is full: records without a key move on to another partition.
    pub(crate) fn batch_is_full(&mut self, count: usize, usable: impl Fn(usize) -> bool) {
        let Some(old) = self.sticky else { return };
        let drawn = self.random_usable(count, &usable);
        let drawn = if drawn == old { (old + 1) % count } else { drawn };
        self.sticky = Some(if usable(drawn) { drawn } else { old });
    }

    fn random_usable(&mut self, count: usize, usable: &impl Fn(usize) -> bool) -> usize {
        let drawn = self.random.below(count);
        (drawn..drawn + count).map(|n| n % count).find(|&n| usable(n)).unwrap_or(drawn)
    }
}

/// xorshift64*: spreads load, keeps no secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        high as usize % count
    }
}

/// Kafka's murmur2: 32 bits, seed 0x9747b28c.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0, |k, &byte| k << 8 | u32::from(byte)).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |k, &byte| k << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15) as i32
}

/// CRC-32 as zlib's.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_what_javas_client_gives() {
        // The vectors of Kafka's own UtilsTest.
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn crc32_gives_what_zlib_gives() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn keys_stay_and_unkeyed_records_stick_until_the_batch_is_full() {
        let mut draw = Draw::new(Partitioner::Murmur2, 7);
        assert_eq!(draw.partition(Some(b"21"), 10, |_| true), (-973_932_308i32 & 0x7fff_ffff) as usize % 10);
        let first = draw.partition(None, 10, |_| true);
        assert!((0..100).all(|_| draw.partition(None, 10, |_| true) == first));
        draw.batch_is_full(10, |_| true);
        assert_ne!(draw.partition(None, 10, |_| true), first);
    }

    #[test]
    fn round_robin_skips_partitions_without_a_leader() {
        let mut draw = Draw::new(Partitioner::RoundRobin, 1);
        let turns: Vec<usize> = (0..6).map(|_| draw.partition(Some(b"k"), 4, |n| n != 1)).collect();
        assert_eq!(turns, [0, 2, 3, 0, 2, 3]);
        let none: Vec<usize> = (0..3).map(|_| draw.partition(None, 2, |_| false)).collect();
        assert_eq!(none, [0, 1, 0]);
    }

    #[test]
    fn random_draws_reach_every_partition() {
        let mut draw = Draw::new(Partitioner::Random, 42);
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            seen[draw.partition(None, 5, |_| true)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }
}
