//! Compares copies batch by batch: each must hold the same batches, byte for byte.

use crate::cli::verify::replicas::read::{Checked, Finding, Kind, Read};

/// So many batches of a copy are described where copies differ.
const DESCRIBED_MAX: usize = 3;

/// See the module. Keeps what it has seen of a place where copies differ until they agree again.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: Option<Open>,
    /// Batches that all copies have, and the bytes of one copy of them.
    pub(super) same: (u64, u64),
}

/// A place where copies differ: from here to there, and what each holds in it.
#[derive(Debug)]
struct Open {
    from: i64,
    to: i64,
    held: Vec<Vec<String>>,
    counts: Vec<usize>,
    is_damaged: bool,
}

impl Open {
    fn new(from: i64, to: i64, copies: usize) -> Self {
        Self { from, to, held: vec![Vec::new(); copies], counts: vec![0; copies], is_damaged: false }
    }
}

impl Batches {
    /// Compares as far as all copies were read; `found` gets what is wrong.
    pub(super) fn compare(&mut self, reads: &mut [Read], found: &mut Vec<Finding>) {
        loop {
            let went_on = match self.open.take() {
                Some(open) => self.go_through(open, reads, found),
                None => self.next(reads),
            };
            if !went_on {
                return;
            }
        }
    }

    /// What was seen of a place where copies differ does not count.
    pub(super) fn begin_again(&mut self) {
        self.open = None;
    }

    /// Looks at what stands in front of all copies; false where something has to be read first, or nothing is left.
    fn next(&mut self, reads: &mut [Read]) -> bool {
        let copies = reads.len();
        let mut fronts = reads.iter().filter(|read| !read.is_lost).map(|read| read.batches.front());
        let waits = reads.iter().any(|read| !read.is_lost && !read.is_at_end && read.batches.is_empty());
        if waits {
            return false;
        }
        let Some(Some(first)) = fronts.clone().find(Option::is_some) else { return false };
        if fronts.all(|front| front.is_some_and(|front| front.is_same(first))) {
            self.same.0 += 1;
            self.same.1 += first.batch.bytes.len() as u64;
            for read in reads.iter_mut().filter(|read| !read.is_lost) {
                read.batches.pop_front();
            }
            return true;
        }
        let fronts = || reads.iter().filter(|read| !read.is_lost).filter_map(|read| read.batches.front());
        let from = fronts().map(Checked::base).min().unwrap_or(0);
        let sound = fronts().filter(|front| front.base() == from && front.fault.is_none());
        let to = sound.map(Checked::next).max().unwrap_or(from + 1);
        self.open = Some(Open::new(from, to, copies));
        true
    }

    /// Takes what lies in the place where copies differ; it ends where no batch reaches over its end.
    fn go_through(&mut self, mut open: Open, reads: &mut [Read], found: &mut Vec<Finding>) -> bool {
        let mut went_on = true;
        while went_on {
            went_on = false;
            for (place, read) in reads.iter_mut().enumerate().filter(|(_, read)| !read.is_lost) {
                while read.batches.front().is_some_and(|front| front.base() < open.to)
                    && let Some(front) = read.batches.pop_front()
                {
                    open.counts[place] += 1;
                    if open.counts[place] <= DESCRIBED_MAX {
                        open.held[place].push(front.describe());
                    }
                    open.is_damaged |= front.fault.is_some();
                    // A batch whose header lies may claim to reach anywhere: it does not hide what is behind it.
                    if front.fault.is_none() {
                        open.to = open.to.max(front.next());
                    }
                    went_on = true;
                }
            }
        }
        let waits = reads.iter().any(|read| !read.is_lost && !read.is_at_end && read.batches.is_empty());
        if waits {
            self.open = Some(open);
            return false;
        }
        found.push(conclude(open, reads));
        true
    }

    /// Nothing more comes: what is open is concluded.
    pub(super) fn finish(&mut self, reads: &[Read], found: &mut Vec<Finding>) {
        if let Some(open) = self.open.take() {
            found.push(conclude(open, reads));
        }
    }
}

fn conclude(open: Open, reads: &[Read]) -> Finding {
    let Open { from, to, held, counts, is_damaged } = open;
    let describe = |place: usize| match counts[place] {
        0 => "nothing".to_owned(),
        count if count > DESCRIBED_MAX => {
            format!("{}; and {} more batches", held[place].join("; "), count - DESCRIBED_MAX)
        }
        _ => held[place].join("; "),
    };
    let there = reads.iter().enumerate().filter(|(place, read)| !read.is_lost || counts[*place] > 0);
    let held = Finding::group(there.map(|(place, read)| (read.broker, describe(place))));
    let (kind, what) = match (held.len(), is_damaged) {
        (..2, _) => (Kind::Damage, "a batch is broken"),
        (_, true) => (Kind::Difference, "a copy is broken"),
        (_, false) => (Kind::Difference, "copies differ"),
    };
    Finding { kind, offset: from, last_offset: (to - 1).max(from), what: what.to_owned(), held }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, BatchBuilder, Compression};
    use crate::types::{LeaderEpoch, Offset};

    fn batch(offset: i64, values: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(3));
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), []);
        }
        Batch::first(&builder.build().unwrap()).unwrap()
    }

    fn flipped(batch: &Batch) -> Batch {
        let mut bytes = batch.bytes.to_vec();
        let last = bytes.len() - 1;
        bytes[last - 1] ^= 1;
        Batch::first(&bytes.into()).unwrap()
    }

    fn reads(copies: &[&[Batch]]) -> Vec<Read> {
        let read = |(place, batches): (usize, &&[Batch])| {
            let mut read = Read::new(i32::try_from(place).unwrap() + 1);
            read.batches.extend(batches.iter().cloned().map(Checked::new));
            read.is_at_end = true;
            read
        };
        copies.iter().enumerate().map(read).collect()
    }

    fn findings(copies: &[&[Batch]]) -> Vec<Finding> {
        let (mut found, mut reads, mut batches) = (Vec::new(), reads(copies), Batches::default());
        batches.compare(&mut reads, &mut found);
        batches.finish(&reads, &mut found);
        assert!(reads.iter().all(|read| read.batches.is_empty()));
        found
    }

    #[test]
    fn copies_that_hold_the_same_batches_are_the_same() {
        let all = [batch(0, &["a", "b"]), batch(2, &["c"])];
        assert_eq!(findings(&[&all, &all, &all]), []);
        assert_eq!(findings(&[&all]), []);
        assert_eq!(findings(&[&[], &[]]), []);
    }

    #[test]
    fn a_copy_with_a_flipped_bit_is_named_and_the_rest_is_compared() {
        let all = [batch(0, &["a", "b"]), batch(2, &["c"]), batch(3, &["d"])];
        let bad = [all[0].clone(), flipped(&all[1]), all[2].clone()];
        let found = findings(&[&all, &bad, &all]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].offset, found[0].last_offset), (Kind::Difference, 2, 2));
        assert_eq!(
            found[0].held.iter().map(|held| held.0.clone()).collect::<Vec<_>>(),
            [vec![1, 3], vec![2]]
        );
        assert!(found[0].held[1].1.contains("CRC-32C"), "{found:?}");
        let alone = findings(&[&bad]);
        assert_eq!((alone.len(), alone[0].kind), (1, Kind::Damage));
    }

    #[test]
    fn what_is_split_otherwise_or_is_not_there_is_one_difference() {
        let all = [batch(0, &["a", "b", "c"]), batch(3, &["d"]), batch(4, &["e"])];
        let split = [batch(0, &["a"]), batch(1, &["b", "c"]), batch(3, &["d"]), batch(4, &["e"])];
        let found = findings(&[&all, &split]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].offset, found[0].last_offset), (0, 2));
        let hole = [all[0].clone(), all[2].clone()];
        let found = findings(&[&all, &hole]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].offset, found[0].last_offset), (3, 3));
        assert_eq!(found[0].held[1], (vec![2], "nothing".to_owned()));
        let short = findings(&[&all, &all[..1]]);
        assert_eq!((short.len(), short[0].offset), (2, 3));
    }

    #[test]
    fn nothing_is_concluded_before_all_copies_were_read() {
        let all = [batch(0, &["a"]), batch(1, &["b"])];
        let mut reads = reads(&[&all, &all[..1]]);
        reads[1].is_at_end = false;
        let (mut found, mut batches) = (Vec::new(), Batches::default());
        batches.compare(&mut reads, &mut found);
        assert_eq!((found.len(), batches.same.0, reads[0].batches.len()), (0, 1, 1));
        reads[1].is_lost = true;
        batches.compare(&mut reads, &mut found);
        assert_eq!((found.len(), batches.same.0), (0, 2));
    }
}
