//! Whether the offsets of a log fit together. Base offsets stand outside a batch's checksum, so that only the
//! neighbours of a batch can tell whether one is right: a batch that does not begin where the one before it ended is
//! judged when the next one is known.

use crate::types::Offset;

/// What was found at one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// Offsets `from` up to `to` are not there: cleaned away, or lost.
    Gap { from: Offset, to: Offset },
    /// Neighbours agree that this batch begins at `due`.
    Wrong { base: Offset, due: Offset },
    /// It reaches back before the end of the one before, or beyond the beginning of the next.
    Overlaps { base: Offset, expected: Offset },
}

/// A batch that does not begin where it was expected to.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    position: u64,
    base: Offset,
    last: Offset,
    expected: Offset,
}

impl Suspect {
    /// Where the next batch begins if this one begins where it should.
    fn shifted_end(&self) -> Offset {
        self.expected + (self.last - self.base) + 1
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Order {
    next: Offset,
    suspect: Option<Suspect>,
}

impl Order {
    /// The first batch should begin at `expected`.
    pub(super) fn new(expected: Offset) -> Self {
        Self { next: expected, suspect: None }
    }

    /// The smallest offset that may come.
    pub(super) fn next(&self) -> Offset {
        match self.suspect {
            Some(suspect) if suspect.last >= suspect.expected => suspect.last.next(),
            _ => self.next,
        }
    }

    /// Takes the next batch. What is said may be about the one before it.
    pub(super) fn batch(&mut self, position: u64, base: Offset, last: Offset) -> Option<(u64, Misplaced)> {
        let said = self.settle(Some(base));
        if base == self.next {
            self.next = last.next();
        } else {
            self.suspect = Some(Suspect { position, base, last, expected: self.next });
        }
        said
    }

    /// Takes note that the bytes up to the batch at `base` are lost and were reported.
    pub(super) fn skip_to(&mut self, base: Offset) -> Option<(u64, Misplaced)> {
        let said = self.settle(Some(base));
        self.next = base;
        said
    }

    /// No batch follows; `next` is where the next segment begins, or where the log should end.
    pub(super) fn end(&mut self, next: Option<Offset>) -> Option<(u64, Misplaced)> {
        self.settle(next)
    }

    fn settle(&mut self, following: Option<Offset>) -> Option<(u64, Misplaced)> {
        let suspect = self.suspect.take()?;
        let Suspect { position, base, last, expected } = suspect;
        let shifted = suspect.shifted_end();
        let is_shifted = following == Some(shifted);
        let reaches_too_far = following.is_some_and(|following| following <= last && following >= shifted);
        let misplaced = if base < expected {
            self.next = if is_shifted { shifted } else { expected.max(last.next()) };
            if is_shifted {
                Misplaced::Wrong { base, due: expected }
            } else {
                Misplaced::Overlaps { base, expected }
            }
        } else if reaches_too_far {
            self.next = shifted;
            if is_shifted {
                Misplaced::Wrong { base, due: expected }
            } else {
                Misplaced::Overlaps { base, expected }
            }
        } else {
            self.next = last.next();
            Misplaced::Gap { from: expected, to: base }
        };
        Some((position, misplaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of `(base, last)`, from 0 on; the log should end at `end`.
    fn judge(batches: &[(i64, i64)], end: Option<i64>) -> Vec<(u64, Misplaced)> {
        let mut order = Order::new(Offset(0));
        let mut said: Vec<_> = batches
            .iter()
            .enumerate()
            .filter_map(|(index, &(base, last))| order.batch(index as u64, Offset(base), Offset(last)))
            .collect();
        said.extend(order.end(end.map(Offset)));
        said
    }

    fn wrong(base: i64, due: i64) -> Misplaced {
        Misplaced::Wrong { base: Offset(base), due: Offset(due) }
    }

    #[test]
    fn any_flipped_bit_of_a_base_offset_is_blamed_on_its_own_batch() {
        let sound = [(0, 9), (10, 10), (11, 30), (31, 31)];
        assert_eq!(judge(&sound, Some(32)), []);
        for place in 0..sound.len() {
            for bit in 0..62 {
                let mut batches = sound;
                let (base, last) = batches[place];
                let flipped = base ^ (1 << bit);
                batches[place] = (flipped, flipped + (last - base));
                assert_eq!(
                    judge(&batches, Some(32)),
                    [(place as u64, wrong(flipped, base))],
                    "{place} {bit}"
                );
            }
        }
    }

    #[test]
    fn holes_are_gaps_and_overlaps_have_no_remedy() {
        let gap = |from, to| Misplaced::Gap { from: Offset(from), to: Offset(to) };
        assert_eq!(judge(&[(0, 4), (8, 9), (12, 13)], Some(14)), [(1, gap(5, 8)), (2, gap(10, 12))]);
        assert_eq!(judge(&[(3, 4)], None), [(0, gap(0, 3))]);
        let overlap = Misplaced::Overlaps { base: Offset(2), expected: Offset(5) };
        assert_eq!(judge(&[(0, 4), (2, 6), (7, 9)], Some(10)), [(1, overlap)]);
    }
}
