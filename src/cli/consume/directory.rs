//! `consume -d`: a log directory as the source of records, read without a lock beside its broker.
//!
//! Reads what a consumer would see: up to the end that the directory vouches for, and, where committed
//! transactions alone are wanted, not beyond the first one that is open. What became of a transaction is found
//! by looking ahead for its marker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cli::directory::Directory;
use crate::client::{Assignment, ConsumeError, Consumer, Fetched, Pulled};
use crate::record::{
    BatchError, BatchHeader, BatchRef, ControlKey, ControlType, InflateLimits, Scratch, batches,
};
use crate::storage::reader::{LogCursor, LogReader};
use crate::types::{Clock, Offset};

/// So much is read at once.
const READ_BYTES: usize = 1 << 20;
/// How often a directory is looked at again for what its broker has appended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So much may wait for the printer.
const WAITING_MAX: usize = 4;

/// One partition being read.
struct Reader {
    assignment: Assignment,
    topic: Arc<str>,
    log: LogReader,
    cursor: LogCursor,
    /// The next offset.
    position: i64,
    /// Transactions whose end is known: producer, first offset -> marker's offset, whether it was taken back.
    decided: HashMap<i64, (i64, bool)>,
}

/// Starts reading on the current runtime.
pub(super) fn start(
    directory: Arc<Directory>,
    assignments: Vec<Assignment>,
    is_committed_only: bool,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Consumer> {
    let mut readers = Vec::new();
    for assignment in assignments {
        let partition = &assignment.partition;
        let log = directory.log(partition)?;
        let log = log.ok_or_else(|| anyhow::anyhow!("{partition} is not in this directory"))?;
        readers.push(Reader {
            topic: partition.topic.as_str().into(),
            cursor: log.cursor(Offset(assignment.start)),
            log,
            position: assignment.start,
            assignment,
            decided: HashMap::new(),
        });
    }
    let (tell, pulled) = mpsc::channel(WAITING_MAX);
    let count = readers.len();
    tokio::spawn(run(directory, readers, is_committed_only, clock, tell));
    Ok(Consumer::of(pulled, count))
}

async fn run(
    directory: Arc<Directory>,
    mut readers: Vec<Reader>,
    is_committed_only: bool,
    clock: Arc<dyn Clock>,
    tell: mpsc::Sender<Pulled>,
) {
    while !readers.is_empty() {
        let mut has_read = false;
        let mut still = Vec::with_capacity(readers.len());
        for mut reader in readers {
            let pulled = match reader.read(&directory, is_committed_only) {
                Ok(Some(fetched)) => Pulled::Data(fetched),
                Ok(None) if reader.is_over() => Pulled::Ended(reader.assignment.partition.clone()),
                Ok(None) => {
                    still.push(reader);
                    continue;
                }
                Err(error) => Pulled::Failed(reader.assignment.partition.clone(), error),
            };
            has_read = true;
            if matches!(pulled, Pulled::Data(_)) {
                still.push(reader);
            }
            if tell.send(pulled).await.is_err() {
                return;
            }
        }
        readers = still;
        if !has_read {
            tokio::select! {
                () = clock.wait(LOOK_AGAIN) => {}
                () = tell.closed() => return,
            }
        }
    }
}

impl Reader {
    fn is_over(&self) -> bool {
        // A bounded range ends where nothing more is to be seen: what an open transaction hides is not read.
        self.assignment.end.is_some()
    }

    /// The next batches; `None` at the end, for now.
    fn read(
        &mut self,
        directory: &Directory,
        is_committed_only: bool,
    ) -> Result<Option<Fetched>, ConsumeError> {
        let storage = |error: &dyn std::fmt::Display| ConsumeError::Unreadable(error.to_string());
        let end = match self.assignment.end {
            Some(end) => end,
            None => {
                directory
                    .end_offset(&self.assignment.partition, &self.log)
                    .map_err(|error| storage(&format_args!("{error:#}")))?
                    .0
            }
        };
        if self.position >= end {
            return Ok(None);
        }
        let read = self.cursor.read(READ_BYTES, Offset(end)).map_err(|error| storage(&error))?;
        let Some(bytes) = read else { return Ok(None) };
        let from = self.position;
        let damaged = |source| ConsumeError::Damaged { offset: from, source };
        let (whole, aborted) =
            self.look_through(&bytes, end, is_committed_only).map_err(|error| match error {
                Looked::Damaged(source) => damaged(source),
                Looked::Storage(why) => ConsumeError::Unreadable(why),
            })?;
        if whole < bytes.len() {
            // The rest is read again once its transaction has ended.
            self.cursor = self.log.cursor(Offset(self.position));
        }
        if whole == 0 {
            return Ok(None);
        }
        Ok(Some(Fetched {
            topic: Arc::clone(&self.topic),
            partition: self.assignment.partition.partition,
            from,
            end,
            batches: bytes.slice(..whole),
            log_start: -1,
            last_stable: -1,
            high_watermark: end,
            aborted,
        }))
    }

    /// Checks the batches, moves the position behind those that may be seen, and finds which of their
    /// transactions were taken back.
    fn look_through(
        &mut self,
        bytes: &Bytes,
        end: i64,
        is_committed_only: bool,
    ) -> Result<(usize, Vec<(i64, i64)>), Looked> {
        let (mut whole, mut aborted, from) = (0, Vec::new(), self.position);
        for batch in batches(bytes) {
            let checked = batch.and_then(|batch| batch.check_crc().map(|()| batch));
            let batch = match checked {
                // What is sound comes first; the next look begins with the damage.
                Err(_) if self.position > from => break,
                checked => checked.map_err(Looked::Damaged)?,
            };
            let header = batch.header;
            if is_committed_only && header.is_transactional() && !header.is_control() {
                match self.fate(&header, end)? {
                    None => break,
                    Some(true) => aborted.push((header.producer_id.0, header.base_offset.0)),
                    Some(false) => {}
                }
            }
            whole += batch.bytes.len();
            self.position = self.position.max(header.next_offset().0);
        }
        Ok((whole, aborted))
    }

    /// Whether the transaction of a batch was taken back; `None` while it is open.
    fn fate(&mut self, header: &BatchHeader, end: i64) -> Result<Option<bool>, Looked> {
        let producer = header.producer_id.0;
        if let Some(&(marker, is_taken_back)) = self.decided.get(&producer)
            && header.base_offset.0 < marker
        {
            return Ok(Some(is_taken_back));
        }
        let mut ahead = self.log.cursor(header.base_offset);
        let mut scratch = Scratch::new();
        while let Some(bytes) =
            ahead.read(READ_BYTES, Offset(end)).map_err(|error| Looked::Storage(error.to_string()))?
        {
            for batch in batches(&bytes) {
                let batch = batch.map_err(Looked::Damaged)?;
                if batch.header.is_control() && batch.header.producer_id.0 == producer {
                    let is_taken_back = is_abort(&batch, &mut scratch);
                    self.decided.insert(producer, (batch.header.base_offset.0, is_taken_back));
                    return Ok(Some(is_taken_back));
                }
            }
        }
        Ok(None)
    }
}

enum Looked {
    Damaged(BatchError),
    Storage(String),
}

fn is_abort(batch: &BatchRef<'_>, scratch: &mut Scratch) -> bool {
    let Ok(mut records) = batch.records(&InflateLimits::default(), scratch) else { return false };
    let Some(Ok(record)) = records.next() else { return false };
    record.key.and_then(ControlKey::parse).is_some_and(|key| key.kind == ControlType::Abort)
}
