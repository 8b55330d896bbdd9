//! Which segments are cleaned into one, so that logs do not fall apart into ever smaller ones.

use std::ops::Range;

use crate::types::Offset;

/// What counts of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentSize {
    pub(super) base: Offset,
    /// Where the next segment begins.
    pub(super) end: Offset,
    pub(super) log_bytes: u64,
    pub(super) offset_index_bytes: u64,
    pub(super) time_index_bytes: u64,
}

/// Neighbours that together stay within a segment's and an index's size, and whose offsets stay within 2^31 of
/// the first one's base (KAFKA-5413).
pub(super) fn group(segments: &[SegmentSize], log_bytes_max: u64, index_bytes_max: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while let Some(first) = segments.get(start) {
        let mut sum = *first;
        let joins = segments[start + 1..].iter().take_while(|next| {
            sum.log_bytes += next.log_bytes;
            sum.offset_index_bytes += next.offset_index_bytes;
            sum.time_index_bytes += next.time_index_bytes;
            sum.log_bytes <= log_bytes_max
                && sum.offset_index_bytes <= index_bytes_max
                && sum.time_index_bytes <= index_bytes_max
                // One without a byte has no offset to be held.
                && (next.log_bytes == 0 || next.end - first.base - 1 <= i64::from(i32::MAX))
        });
        let end = start + 1 + joins.count();
        groups.push(start..end);
        start = end;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(bases: &[i64], log_bytes: &[u64]) -> Vec<SegmentSize> {
        let pairs = bases.windows(2).zip(log_bytes);
        pairs
            .map(|(pair, &log_bytes)| SegmentSize {
                base: Offset(pair[0]),
                end: Offset(pair[1]),
                log_bytes,
                offset_index_bytes: 8,
                time_index_bytes: 12,
            })
            .collect()
    }

    #[test]
    fn groups_stay_within_their_sizes() {
        let of = segments(&[0, 10, 20, 30, 40], &[60, 40, 70, 40]);
        assert_eq!(group(&of, 100, 1_000), [0..2, 2..3, 3..4]);
        assert_eq!(group(&of, 1_000, 36), [0..3, 3..4]);
        assert_eq!(group(&of, 1, 1), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(group(&of, 1_000, 1_000).first(), Some(&(0..4)));
        assert!(group(&[], 1, 1).is_empty());
    }

    #[test]
    fn kafka_5413_groups_stay_within_2_to_the_31_offsets() {
        let wide = i64::from(i32::MAX);
        let of = segments(&[0, 10, wide + 1, wide + 2, wide + 9], &[10, 10, 10, 10]);
        assert_eq!(group(&of, 1_000, 1_000), [0..2, 2..4]);
        let with_an_empty_one = segments(&[0, 10, wide + 2, wide + 9], &[10, 0, 0]);
        assert_eq!(group(&with_an_empty_one, 1_000, 1_000).first(), Some(&(0..3)));
    }
}
