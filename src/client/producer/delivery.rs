//! What became of a batch: where its records are, or why they are nowhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::ErrorCode;
use crate::types::print_duration;

use super::super::error::ClientError;

/// So many records whose tags follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) count: u32,
}

/// The tags of a batch's records, in order. Callers number their records; a batch of one partition then has
/// few runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    runs: Vec<Run>,
}

impl Tags {
    pub(super) fn push(&mut self, tag: u64) {
        match self.runs.last_mut() {
            Some(run) if run.first + u64::from(run.count) == tag => run.count += 1,
            _ => self.runs.push(Run { first: tag, count: 1 }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.count as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|run| run.first..run.first + u64::from(run.count))
    }

    /// The first `count` tags, and the others.
    pub(super) fn split(&self, count: usize) -> (Self, Self) {
        let (mut front, mut back) = (Self::default(), Self::default());
        for (index, tag) in self.iter().enumerate() {
            if index < count { front.push(tag) } else { back.push(tag) }
        }
        (front, back)
    }
}

/// The end of a batch's journey. Every record that was appended comes in exactly one of these.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Which records.
    pub tags: Tags,
    /// The batch as it was sent; its offsets are not assigned. Empty where it was never built.
    pub batch: Bytes,
    /// Where they are, or why not.
    pub outcome: Result<Delivered, DeliveryError>,
}

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The offset of the first record; `None` where the broker does not tell: acks=0, or a duplicate of an
    /// old batch.
    pub base_offset: Option<i64>,
    /// The broker's timestamp, where the topic has LogAppendTime.
    pub log_append_time_ms: Option<i64>,
}

/// Why a batch was not acknowledged.
#[derive(Debug, Clone)]
pub struct DeliveryError {
    /// What happened last.
    pub cause: DeliveryCause,
    /// Whether the records may be in the log all the same: the last answer did not come.
    pub maybe_written: bool,
}

/// The last thing that happened to a batch.
#[derive(Debug, Clone)]
pub enum DeliveryCause {
    /// The broker refused it.
    Refused {
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
        /// Single records that are to blame: the place in the batch, and the broker's words.
        records: Vec<(usize, String)>,
    },
    /// No answer within `delivery.timeout.ms` or `retries`; `last` is what the last attempt met.
    GaveUp {
        /// How long it was tried.
        after: Duration,
        /// The last attempt's failure.
        last: Option<String>,
    },
    /// The producer cannot work at all.
    Client(ClientError),
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            DeliveryCause::Refused { code, message, .. } => {
                let words = message.as_deref().filter(|words| !words.is_empty());
                write!(f, "{} ({})", words.unwrap_or(code.message()), code.name())?;
            }
            DeliveryCause::GaveUp { after, last } => {
                write!(f, "not acknowledged within {}", print_duration(*after))?;
                if let Some(last) = last {
                    write!(f, ": {last}")?;
                }
            }
            DeliveryCause::Client(error) => write!(f, "{error}")?,
        }
        if self.maybe_written { f.write_str("; it may have been written all the same") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_in_order_across_runs_and_splits() {
        let mut tags = Tags::default();
        let given = [1, 2, 3, 7, 8, 5];
        given.into_iter().for_each(|tag| tags.push(tag));
        assert_eq!(tags.iter().collect::<Vec<_>>(), given);
        assert_eq!((tags.len(), tags.runs.len()), (6, 3));
        let (front, back) = tags.split(4);
        assert_eq!(front.iter().collect::<Vec<_>>(), [1, 2, 3, 7]);
        assert_eq!(back.iter().collect::<Vec<_>>(), [8, 5]);
    }
}
