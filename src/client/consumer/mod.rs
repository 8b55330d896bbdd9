//! Records from partitions, in order, from an offset to an offset or without end.
//!
//! Partitions are assigned, not negotiated. One task a leader fetches ahead while the caller still works on
//! what came before; what waits is bounded. What arrives is whole batches with a checked CRC; [`Fetched::read`]
//! lends the records out of them without a copy and leaves out what a transaction took back.
//!
//! A leader whose log is not the one that was read, since records were taken back, says how far the two agree:
//! reading goes on there (KIP-320).
//!
//! An end is exact: a partition is over when every offset below its end has been passed, whether records,
//! markers or holes stand there.

mod fetched;
mod history;
mod puller;
mod router;
#[cfg(test)]
mod tests;

use thiserror::Error;
use tokio::sync::mpsc;

use crate::protocol::ErrorCode;
use crate::record::BatchError;
use crate::types::TopicPartition;

use super::cluster::Cluster;
use super::config::ConsumerOptions;
use super::error::ClientError;

pub use fetched::{Fetched, Reading};

/// So many answers may wait for the caller; each is at most `fetch.max.bytes`, typically
/// `max.partition.fetch.bytes`.
const WAITING_MAX: usize = 4;

/// A partition to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub partition: TopicPartition,
    /// The first offset.
    pub start: i64,
    /// The leader epoch of the record before it, as it was committed; `None` where it is not known.
    pub start_epoch: Option<i32>,
    /// Behind the last offset; `None` reads on as records come.
    pub end: Option<i64>,
}

/// What a consumer tells.
#[derive(Debug)]
pub enum Pulled {
    /// Records.
    Data(Fetched),
    /// A partition is read to its end.
    Ended(TopicPartition),
    /// Offsets that were asked for are no more (or not yet) there; reading goes on elsewhere.
    Jumped {
        /// In this partition.
        partition: TopicPartition,
        /// From this offset.
        from: i64,
        /// To this one.
        to: i64,
    },
    /// A partition cannot be read on.
    Failed(TopicPartition, ConsumeError),
}

/// Why a partition cannot be read on.
#[derive(Debug, Clone, Error)]
pub enum ConsumeError {
    /// Broker or network.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker says so.
    #[error("{} ({})", .0.message(), .0.name())]
    Refused(ErrorCode),
    /// The offset is not there, and nobody said where to go on.
    #[error("offset {offset} is not there (auto.offset.reset=none)")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
    },
    /// Records that were read are no more, and nobody said where to go on.
    #[error(
        "records behind offset {agreed} were taken back, {offset} was next to be read (auto.offset.reset=none)"
    )]
    TakenBack {
        /// The offset asked for.
        offset: i64,
        /// How far the leader's log is the one that was read.
        agreed: i64,
    },
    /// The directory cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// What came is no batch, or not the one that was written.
    #[error("the batch at or after offset {offset} is damaged: {source}")]
    Damaged {
        /// Where it was looked for.
        offset: i64,
        /// What is wrong with it.
        source: BatchError,
    },
}

/// Reads partitions. Dropping it stops everything.
pub struct Consumer {
    pulled: mpsc::Receiver<Pulled>,
    left: usize,
}

impl Consumer {
    /// Starts reading, on the current runtime.
    #[must_use]
    pub fn start(cluster: &Cluster, options: &ConsumerOptions, assignments: Vec<Assignment>) -> Self {
        let (tell, pulled) = mpsc::channel(WAITING_MAX);
        let left = assignments.len();
        tokio::spawn(router::run(cluster.clone(), options.clone(), assignments, tell));
        Self { pulled, left }
    }

    /// A consumer of `count` partitions that something else reads.
    #[must_use]
    pub fn of(pulled: mpsc::Receiver<Pulled>, count: usize) -> Self {
        Self { pulled, left: count }
    }

    /// What comes next; `None` once every partition has ended or failed.
    pub async fn next(&mut self) -> Option<Pulled> {
        if self.left == 0 {
            return None;
        }
        let pulled = self.pulled.recv().await;
        self.count(pulled.as_ref());
        pulled
    }

    /// What is there without waiting.
    pub fn try_next(&mut self) -> Option<Pulled> {
        let pulled = self.pulled.try_recv().ok();
        self.count(pulled.as_ref());
        pulled
    }

    /// Whether every partition has ended or failed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    fn count(&mut self, pulled: Option<&Pulled>) {
        if let Some(Pulled::Ended(_) | Pulled::Failed(..)) = pulled {
            self.left = self.left.saturating_sub(1);
        }
    }
}
