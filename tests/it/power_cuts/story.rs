//! What a workload did to each partition, and when: from it follows what must, and what may, be there after a cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use klamm::types::Uuid;

/// A batch that was appended.
#[derive(Debug, Clone)]
pub struct Written {
    pub base: i64,
    pub last: i64,
    pub epoch: i32,
    pub bytes: Bytes,
    /// The change after which it may be there, the one after which it must, and the one after which it need not.
    pub from: u64,
    pub acknowledged: Option<u64>,
    pub cut: Option<u64>,
}

/// One partition's.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    pub topic_id: Option<Uuid>,
    pub written: Vec<Written>,
    /// From which change on the log may begin at which offset.
    pub starts: Vec<(u64, i64)>,
    /// Its first change, and its last.
    pub born: u64,
    pub gone: Option<u64>,
}

/// All of them, by name.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub partitions: BTreeMap<String, Partition>,
    /// Those that were deleted while another of their name was made.
    pub former: Vec<(String, Partition)>,
}

/// What holds for a partition after a cut.
#[derive(Debug, Clone)]
pub struct ExpectedLog {
    pub topic_id: Uuid,
    pub may: Vec<Written>,
    /// Indexes into `may`.
    pub must: Vec<usize>,
    /// The log begins here at the latest.
    pub start_max: i64,
}

/// What holds after a cut: the partitions that there are. Others may have left anything.
#[derive(Debug, Clone)]
pub struct Expected {
    pub logs: BTreeMap<String, ExpectedLog>,
    /// Batches that a check has appended may be there, too.
    pub may_have_grown: bool,
}

impl Story {
    /// What must hold when the power is cut while `change` is on its way.
    pub fn at(&self, change: u64) -> Expected {
        let former = self.former.iter().map(|(name, partition)| (name, partition));
        let mut logs = BTreeMap::new();
        for (name, partition) in former.chain(&self.partitions) {
            let is_there = partition.born < change && partition.gone.is_none_or(|gone| gone >= change);
            if is_there {
                logs.insert(name.clone(), partition.at(change));
            }
        }
        Expected { logs, may_have_grown: false }
    }
}

impl Partition {
    fn at(&self, change: u64) -> ExpectedLog {
        let may: Vec<Written> = self.written.iter().filter(|one| one.from < change).cloned().collect();
        let starts = self.starts.iter().filter(|(from, _)| *from < change).map(|(_, start)| *start);
        let start_max = starts.max().unwrap_or(0);
        let is_due = |one: &Written| {
            one.acknowledged.is_some_and(|at| at < change)
                && one.cut.is_none_or(|at| at >= change)
                && one.last >= start_max
        };
        let must = (0..may.len()).filter(|index| is_due(&may[*index])).collect();
        ExpectedLog { topic_id: self.topic_id.unwrap_or(Uuid::ONE), may, must, start_max }
    }
}

impl Expected {
    /// What holds once a check has opened and used the directory.
    pub fn after_recovery(&self) -> Self {
        Self { may_have_grown: true, ..self.clone() }
    }
}
