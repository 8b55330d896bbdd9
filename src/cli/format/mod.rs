//! Records as text and bytes, both ways: delimiters, format strings, JSON. What one side prints, the other
//! reads back unchanged.

pub mod escape;
pub mod input;
pub mod json;
pub mod output;
#[cfg(test)]
mod roundtrip;
mod verbs;

use std::borrow::Cow;

use crate::record::{HeaderRef, TimestampType};

/// One record as the output side sees it, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct RecordView<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, -1 where there is none.
    pub timestamp_ms: i64,
    /// Who set it.
    pub timestamp_type: TimestampType,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers, in order, repeated names kept.
    pub headers: Vec<HeaderRef<'a>>,
    /// What is said once for a whole batch.
    pub batch: BatchFacts,
    /// What is said once for a whole partition.
    pub log: LogFacts,
}

/// Of the batch a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    /// The leader's epoch at the append.
    pub leader_epoch: i32,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Codec and flags, as on the wire.
    pub attributes: i16,
}

/// Of the partition, when the record was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacts {
    /// The first offset that is there.
    pub log_start: i64,
    /// Below it no transaction is open.
    pub last_stable: i64,
    /// Below it everything is replicated.
    pub high_watermark: i64,
}

impl Default for BatchFacts {
    fn default() -> Self {
        Self { leader_epoch: -1, producer_id: -1, producer_epoch: -1, attributes: 0 }
    }
}

impl Default for LogFacts {
    fn default() -> Self {
        Self { log_start: -1, last_stable: -1, high_watermark: -1 }
    }
}

/// One record as the input side gives it; borrows from the input where it can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRecord<'a> {
    /// The topic, where the input names one.
    pub topic: Option<Cow<'a, str>>,
    /// The partition, where the input names one.
    pub partition: Option<i32>,
    /// The timestamp, where the input gives one.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value.
    pub value: Option<Cow<'a, [u8]>>,
    /// The headers, in order.
    pub headers: Vec<InputHeader<'a>>,
}

/// One header that the input gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputHeader<'a> {
    /// Its name.
    pub key: Cow<'a, [u8]>,
    /// Its value.
    pub value: Option<Cow<'a, [u8]>>,
}
