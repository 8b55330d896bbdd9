//! Compares all copies of one partition, from the first offset that all have up to the high watermark, holding no more of
//! each than one answer.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::verify::replicas::batches::Batches;
use crate::cli::verify::replicas::read::{Checked, Finding, Kind, Read};
use crate::cli::verify::replicas::records::Records;
use crate::cli::verify::replicas::source::{self, Answer, Which};
use crate::client::{ClientError, Cluster};
use crate::protocol::ErrorCode;
use crate::record::{Batch, BatchError};
use crate::types::{BrokerId, Clock};

/// What is asked for at a time; more where a batch alone is larger.
const FETCH_BYTES: i32 = 1 << 20;
/// A batch larger than this is not believed.
const FETCH_BYTES_MAX: i32 = 128 << 20;
/// Between two looks at a copy that does not show yet what others have.
const LOOK: Duration = Duration::from_millis(100);
/// Before copies that differ are read a second time: a replica may just have been cutting its log.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long a copy that is in sync may take to show what is committed, and one that is not.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_OUT_OF_SYNC: Duration = Duration::from_secs(1);
/// So many findings of a partition are kept.
const FINDINGS_MAX: usize = 20;
/// So often the end is moved on while keys are looked for that were written again since.
const FURTHER_MAX: u32 = 3;

/// What there is to compare.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) which: Which,
    /// By broker: where the copy begins, and whether it is in sync.
    pub(super) copies: Vec<(BrokerId, i64, bool)>,
    /// The high watermark when we began; unknown where nobody leads.
    pub(super) end: Option<i64>,
    pub(super) is_compacted: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) from: i64,
    pub(super) to: i64,
    /// How many copies were compared to the end.
    pub(super) copies: usize,
    /// Batches of one copy, and their bytes.
    pub(super) batches: u64,
    pub(super) bytes: u64,
    pub(super) findings: Vec<Finding>,
    /// Findings that are not kept.
    pub(super) hidden: u64,
    /// Copies that could not be compared, or not to the end, and why.
    pub(super) not_compared: Vec<(i32, String)>,
    /// Records that could not be judged.
    pub(super) unjudged: u64,
}

/// A copy on its way.
struct Copy {
    broker: BrokerId,
    position: i64,
    bytes_max: i32,
    is_in_sync: bool,
    high_watermark: i64,
    /// Since when it shows nothing new although there is more.
    still_since: Option<Duration>,
    /// The last look, at the end of what it shows, brought nothing.
    was_empty: bool,
}

enum Comparison {
    Batches(Batches),
    Records(Box<Records>),
}

/// See the module.
pub(super) struct Partition {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    which: Which,
    copies: Vec<Copy>,
    reads: Vec<Read>,
    comparison: Comparison,
    end: i64,
    is_led: bool,
    looked_again: bool,
    further: u32,
    compared: Compared,
    bar: ProgressBar,
    drawn: i64,
}

impl Partition {
    pub(super) fn new(cluster: Cluster, task: Task, bar: ProgressBar) -> Self {
        let from = task.copies.iter().map(|copy| copy.1).max().unwrap_or(0);
        let copy = |&(broker, _, is_in_sync): &(BrokerId, i64, bool)| Copy {
            broker,
            position: from,
            bytes_max: FETCH_BYTES,
            is_in_sync,
            high_watermark: -1,
            still_since: None,
            was_empty: false,
        };
        let comparison = if task.is_compacted {
            Comparison::Records(Box::default())
        } else {
            Comparison::Batches(Batches::default())
        };
        Self {
            clock: Arc::clone(&cluster.options().clock),
            cluster,
            copies: task.copies.iter().map(copy).collect(),
            reads: task.copies.iter().map(|(broker, ..)| Read::new(broker.0)).collect(),
            which: task.which,
            comparison,
            end: task.end.unwrap_or(i64::MAX),
            is_led: task.end.is_some(),
            looked_again: false,
            further: 0,
            compared: Compared { from, ..Compared::default() },
            bar,
            drawn: from,
        }
    }

    /// Compares until every copy is read or given up.
    pub(super) async fn run(mut self) -> Compared {
        loop {
            self.read_on().await;
            let mut found = Vec::new();
            self.compare(&mut found);
            let is_done =
                self.reads.iter().all(|read| read.is_lost || read.is_at_end && read.batches.is_empty());
            if is_done && found.is_empty() && self.goes_further() {
                continue;
            }
            if is_done {
                self.finish(&mut found);
            }
            if let Some(first) = found.first()
                && self.looks_again(first.offset).await
            {
                continue;
            }
            self.keep(found);
            self.draw();
            if is_done {
                return self.conclude();
            }
        }
    }

    /// Reads on in every copy of which nothing is left to compare.
    async fn read_on(&mut self) {
        let mut asked = tokio::task::JoinSet::new();
        for (place, copy) in self.copies.iter().enumerate() {
            let read = &self.reads[place];
            if read.is_lost || read.is_at_end || !read.batches.is_empty() {
                continue;
            }
            let (cluster, which, broker) = (self.cluster.clone(), self.which.clone(), copy.broker);
            let (position, bytes_max) = (copy.position, copy.bytes_max);
            if position >= self.end {
                self.reads[place].is_at_end = true;
                continue;
            }
            asked.spawn(async move {
                (place, position, source::fetch(&cluster, broker, &which, position, bytes_max).await)
            });
        }
        let mut stands_still = !asked.is_empty();
        while let Some(answered) = asked.join_next().await {
            let Ok((place, asked_at, answer)) = answered else { continue };
            // Another copy may have lost its first offsets meanwhile: then this one is asked again.
            if self.copies[place].position == asked_at {
                self.take(place, answer).await;
            }
            let read = &self.reads[place];
            stands_still &= asked_at == self.copies[place].position && !read.is_lost && !read.is_at_end;
        }
        if stands_still {
            self.clock.wait(LOOK).await;
        }
    }

    async fn take(&mut self, place: usize, answer: Result<Answer, ClientError>) {
        match answer {
            Ok(Answer::Bytes(bytes, high_watermark)) => {
                let before = std::mem::replace(&mut self.copies[place].high_watermark, high_watermark);
                if !self.is_led && before < 0 {
                    // As far as everybody knows it is committed.
                    self.end = self.end.min(high_watermark);
                }
                if bytes.is_empty() { self.wait_for(place) } else { self.take_batches(place, &bytes) }
            }
            Ok(Answer::OutOfRange) => self.find_start(place).await,
            Ok(Answer::Nothing) => {}
            Err(error) if error.code() == Some(ErrorCode::CorruptMessage) => {
                self.break_off(place, "the broker itself finds it broken".to_owned());
            }
            Err(error) => self.lose(place, error.to_string()),
        }
    }

    fn take_batches(&mut self, place: usize, bytes: &bytes::Bytes) {
        let (copy, read) = (&mut self.copies[place], &mut self.reads[place]);
        (copy.still_since, copy.was_empty) = (None, false);
        let mut rest = bytes.clone();
        while !rest.is_empty() && copy.position < self.end {
            let batch = match Batch::first(&rest) {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) if !read.batches.is_empty() => break,
                Err(BatchError::Truncated { .. }) if copy.bytes_max < FETCH_BYTES_MAX => {
                    copy.bytes_max = copy.bytes_max.saturating_mul(4).min(FETCH_BYTES_MAX);
                    break;
                }
                // What is sound comes first; the next answer begins with the damage.
                Err(_) if !read.batches.is_empty() => break,
                Err(error) => return self.break_off(place, error.to_string()),
            };
            rest = rest.slice(batch.bytes.len()..);
            let checked = Checked::new(batch);
            if checked.next() > copy.position && checked.base() < self.end {
                copy.position = checked.next();
                read.batches.push_back(checked);
            } else if checked.base() >= self.end {
                copy.position = self.end;
            }
        }
        // A batch that lies before what was asked for, and nothing else: it would come again for ever.
        if read.batches.is_empty() && copy.position < self.end && rest.is_empty() {
            self.break_off(place, "the batch that stands there ends before it".to_owned());
        }
    }

    /// The copy shows nothing at its position.
    fn wait_for(&mut self, place: usize) {
        let now = self.clock.elapsed();
        let copy = &mut self.copies[place];
        if copy.high_watermark >= self.end {
            // Nothing stands between here and the end, if it says so twice: compaction took it, or it is missing.
            if std::mem::replace(&mut copy.was_empty, true) {
                self.reads[place].is_at_end = true;
            }
            return;
        }
        let since = *copy.still_since.get_or_insert(now);
        let patience = if copy.is_in_sync { PATIENCE } else { PATIENCE_OUT_OF_SYNC };
        if now.saturating_sub(since) >= patience {
            let (at, end) = (copy.position, self.end);
            let sync = if copy.is_in_sync { "" } else { ", is not in sync" };
            self.lose(place, format!("it is behind{sync}: it was compared up to offset {at} of {end}"));
        }
    }

    /// The offset that was asked for is not in the copy: retention took it meanwhile, or the copy does not reach there.
    async fn find_start(&mut self, place: usize) {
        let broker = self.copies[place].broker;
        let asked = [self.which.partition.clone()];
        let start = match source::starts(&self.cluster, broker, &asked).await {
            Ok(starts) => starts.into_values().next().unwrap_or(Err(ErrorCode::UnknownServerError)),
            Err(error) => return self.lose(place, error.to_string()),
        };
        match start {
            Ok(start) if start > self.copies[place].position => self.begin_at(start),
            Ok(_) => self.wait_for(place),
            Err(code) => self.lose(place, format!("{} ({})", code.message(), code.name())),
        }
    }

    /// Nothing below `start` is compared any more.
    fn begin_at(&mut self, start: i64) {
        for (copy, read) in self.copies.iter_mut().zip(&mut self.reads) {
            copy.position = copy.position.max(start);
            read.batches.retain(|batch| batch.next() > start);
        }
    }

    /// The copy cannot be read from its position on, and that is damage.
    fn break_off(&mut self, place: usize, why: String) {
        let (offset, broker) = (self.copies[place].position, self.copies[place].broker.0);
        self.reads[place].is_lost = true;
        self.compared.not_compared.push((broker, format!("it cannot be read from offset {offset} on")));
        let what = "no batch can be read here, nor what is behind".to_owned();
        let (last_offset, held) = (offset, vec![(vec![broker], why)]);
        self.keep(vec![Finding { kind: Kind::Damage, offset, last_offset, what, held }]);
    }

    fn lose(&mut self, place: usize, why: String) {
        self.reads[place].is_lost = true;
        self.compared.not_compared.push((self.copies[place].broker.0, why));
    }

    fn compare(&mut self, found: &mut Vec<Finding>) {
        match &mut self.comparison {
            Comparison::Batches(batches) => batches.compare(&mut self.reads, found),
            Comparison::Records(records) => records.compare(&mut self.reads, found),
        }
    }

    fn finish(&mut self, found: &mut Vec<Finding>) {
        match &mut self.comparison {
            Comparison::Batches(batches) => batches.finish(&self.reads, found),
            Comparison::Records(records) => records.finish(found),
        }
    }

    /// A key whose last record a copy lacks may have been written again since we began.
    fn goes_further(&mut self) -> bool {
        let Comparison::Records(records) = &self.comparison else { return false };
        let known = self.copies.iter().zip(&self.reads).filter(|(_, read)| !read.is_lost);
        let Some(now) = known.map(|(copy, _)| copy.high_watermark).max() else { return false };
        if !records.has_pending() || self.further >= FURTHER_MAX || now <= self.end {
            return false;
        }
        self.further += 1;
        self.end = now;
        for read in self.reads.iter_mut() {
            read.is_at_end = false;
        }
        true
    }

    /// Reads once more from `offset` on before it is believed that copies differ there.
    async fn looks_again(&mut self, offset: i64) -> bool {
        if self.looked_again || matches!(self.comparison, Comparison::Records(_)) {
            return false;
        }
        self.looked_again = true;
        self.clock.wait(SECOND_LOOK).await;
        let Comparison::Batches(batches) = &mut self.comparison else { return false };
        batches.begin_again();
        for (copy, read) in self.copies.iter_mut().zip(&mut self.reads) {
            copy.position = offset;
            (read.is_at_end, copy.was_empty, copy.still_since) = (false, false, None);
            read.batches.clear();
        }
        true
    }

    fn keep(&mut self, found: Vec<Finding>) {
        for finding in found {
            if self.compared.findings.len() < FINDINGS_MAX {
                self.compared.findings.push(finding);
            } else {
                self.compared.hidden += 1;
            }
        }
    }

    fn draw(&mut self) {
        let position = self.copies.iter().map(|copy| copy.position).min().unwrap_or(0);
        let moved = u64::try_from(position.saturating_sub(self.drawn)).unwrap_or(0);
        self.drawn = self.drawn.max(position);
        self.bar.inc(moved);
    }

    fn conclude(mut self) -> Compared {
        self.compared.to = if self.end == i64::MAX { self.compared.from } else { self.end };
        self.compared.copies = self.reads.iter().filter(|read| !read.is_lost).count();
        let (batches, bytes) = match &self.comparison {
            Comparison::Batches(batches) => batches.same,
            Comparison::Records(records) => {
                self.compared.unjudged = records.untracked;
                records.same
            }
        };
        (self.compared.batches, self.compared.bytes) = (batches, bytes);
        self.compared
    }
}
