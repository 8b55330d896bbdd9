//! What was read of one copy of a partition and not yet compared, and what a comparison finds. No sockets here.

use std::collections::VecDeque;

use crate::record::Batch;

/// A batch, and what is wrong with it by itself.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) batch: Batch,
    pub(super) fault: Option<String>,
}

impl Checked {
    /// Checks the batch's CRC.
    pub(super) fn new(batch: Batch) -> Self {
        let fault = batch.as_ref().check_crc().err().map(|error| error.to_string());
        Self { batch, fault }
    }

    /// Where it begins.
    pub(super) fn base(&self) -> i64 {
        self.batch.header.base_offset.0
    }

    /// Where the one behind it begins, at least.
    pub(super) fn next(&self) -> i64 {
        self.batch.header.next_offset().0
    }

    /// Whether both hold the same bytes: what the CRC does not cover is in the header, and the CRC of each was
    /// computed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.batch.header == other.batch.header && self.fault.is_none() && other.fault.is_none()
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let header = &self.batch.header;
        let last = header.last_offset().0;
        let sound = self.fault.as_ref().map_or_else(|| format!("crc {}", header.crc), Clone::clone);
        format!(
            "offsets {}-{last}, {} records, {} bytes, epoch {}, {sound}",
            self.base(),
            header.record_count,
            header.size(),
            header.leader_epoch.0
        )
    }
}

/// One copy.
#[derive(Debug)]
pub(super) struct Read {
    /// Whose it is.
    pub(super) broker: i32,
    /// Read and not compared, in order.
    pub(super) batches: VecDeque<Checked>,
    /// Nothing more is to come.
    pub(super) is_at_end: bool,
    /// Nothing of it is compared any more: it cannot be read further.
    pub(super) is_lost: bool,
}

impl Read {
    pub(super) fn new(broker: i32) -> Self {
        Self { broker, batches: VecDeque::new(), is_at_end: false, is_lost: false }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Copies do not hold the same.
    Difference,
    /// What a copy holds is broken by itself.
    Damage,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Difference => "difference",
            Self::Damage => "damage",
        }
    }
}

/// Something that is wrong with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) offset: i64,
    /// The last offset that it concerns.
    pub(super) last_offset: i64,
    pub(super) what: String,
    /// What each has there; those that have the same stand together.
    pub(super) held: Vec<(Vec<i32>, String)>,
}

impl Finding {
    /// Puts those that hold the same together, in the order of the first of them.
    pub(super) fn group(held: impl IntoIterator<Item = (i32, String)>) -> Vec<(Vec<i32>, String)> {
        let mut grouped: Vec<(Vec<i32>, String)> = Vec::new();
        for (broker, what) in held {
            match grouped.iter_mut().find(|(_, known)| *known == what) {
                Some((brokers, _)) => brokers.push(broker),
                None => grouped.push((vec![broker], what)),
            }
        }
        grouped
    }
}
