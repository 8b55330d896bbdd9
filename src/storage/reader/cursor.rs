//! [`LogCursor`]: a log's batches in order, read whole, by pread.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{LogReader, SegmentFile};
use crate::record::{BATCH_HEADER_SIZE, BatchFrame, BatchHeader, FRAME_SIZE, MAGIC};
use crate::storage::disk::DiskFile;
use crate::storage::error::StorageError;
use crate::storage::place::{Suffix, file_name};
use crate::storage::scan::LOOKUP_WINDOW;
use crate::types::Offset;

/// Reads a log's batches in order; at the end it can be asked again, for what has been appended since.
#[derive(Debug)]
pub struct LogCursor {
    log: LogReader,
    next: Offset,
    at: Option<CursorPlace>,
}

#[derive(Debug)]
struct CursorPlace {
    base: Offset,
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl LogCursor {
    pub(super) fn new(log: LogReader, from: Offset) -> Self {
        Self { log, next: from, at: None }
    }

    /// The offset behind the last batch that was read.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Whole batches that begin below `before`, at most `max_bytes` of them but at least one; `None` at the
    /// end, for now.
    ///
    /// # Errors
    /// What the system says, or bytes that are no batch in a segment that is not the last.
    pub fn read(&mut self, max_bytes: usize, before: Offset) -> Result<Option<Bytes>, StorageError> {
        let mut has_looked_again = false;
        loop {
            if self.at.is_none() {
                self.at = self.find(true)?;
            }
            let Some(place) = &mut self.at else { return Ok(None) };
            let path = self.log.folder.join(file_name(place.base, Suffix::Log));
            let read = read_batches(&*place.file, place.position, max_bytes, self.next, before)
                .map_err(StorageError::io("read", &path))?;
            place.position += read.skipped;
            if let Some((bytes, next)) = read.batches {
                place.position += bytes.len() as u64;
                self.next = next;
                return Ok(Some(bytes));
            }
            // Nothing whole is left in this segment. Is there one behind it?
            let base = place.base;
            let following = self.log.segments()?.into_iter().find(|segment| segment.base > base);
            let Some(following) = following.filter(|following| following.base < before) else {
                return Ok(None);
            };
            let is_complete = read.broken.is_none() && following.base <= self.next;
            if !is_complete && !has_looked_again {
                // The cleaner leaves offsets out. Or it has put other files in the place of these meanwhile.
                has_looked_again = true;
                self.at = self.find(read.broken.is_none())?;
                continue;
            }
            if let Some(why) = read.broken {
                return Err(StorageError::corrupt(&path, why));
            }
            self.at = self.enter(&following, 0)?;
            self.next = self.next.max(following.base);
        }
    }

    /// Where reading begins, by the index or at the segment's begin.
    fn find(&self, by_index: bool) -> Result<Option<CursorPlace>, StorageError> {
        let segments = self.log.segments()?;
        let holding = segments.iter().rev().find(|segment| segment.base <= self.next).or(segments.first());
        let Some(segment) = holding else { return Ok(None) };
        let position = if by_index { self.log.position_at_or_before(segment, self.next)? } else { 0 };
        self.enter(segment, position)
    }

    fn enter(&self, segment: &SegmentFile, position: u64) -> Result<Option<CursorPlace>, StorageError> {
        let file = self.log.open(segment.base, Suffix::Log)?;
        Ok(file.map(|file| CursorPlace { base: segment.base, file, position }))
    }
}

/// What one look into a file brought.
struct ReadBatches {
    /// Bytes of batches before the offset that was asked for.
    skipped: u64,
    /// Whole batches, and the offset behind them.
    batches: Option<(Bytes, Offset)>,
    /// What stands behind the last whole batch, if anything.
    broken: Option<String>,
}

fn read_batches(
    file: &dyn DiskFile,
    position: u64,
    max_bytes: usize,
    from: Offset,
    before: Offset,
) -> io::Result<ReadBatches> {
    let mut skipped = 0;
    let mut size = max_bytes.max(LOOKUP_WINDOW);
    loop {
        let left = file.len()?.saturating_sub(position + skipped);
        let mut bytes = vec![0; size.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let filled = file.read_at(&mut bytes, position + skipped)?;
        bytes.truncate(filled);
        let walked = walk_batches(&bytes, from, before);
        skipped += walked.skipped as u64;
        if let Some(next) = walked.next {
            let whole = Bytes::from(bytes).slice(walked.skipped..walked.end);
            return Ok(ReadBatches { skipped, batches: Some((whole, next)), broken: None });
        }
        match walked.stop {
            // The first batch is longer than what was read, and the file may hold it.
            Stop::Short { needed } if needed as u64 <= left.saturating_sub(walked.skipped as u64) => {
                size = size.max(needed);
            }
            Stop::Short { needed } => {
                let why = format!("position {}: a batch of {needed} bytes is cut off", position + skipped);
                return Ok(ReadBatches { skipped, batches: None, broken: Some(why) });
            }
            Stop::Broken(why) => {
                let why = format!("position {}: {why}", position + skipped);
                return Ok(ReadBatches { skipped, batches: None, broken: Some(why) });
            }
            Stop::End => return Ok(ReadBatches { skipped, batches: None, broken: None }),
        }
    }
}

/// How the batches in a piece of memory lie.
struct WalkedBatches {
    /// Bytes of batches that end before what was asked for.
    skipped: usize,
    /// Where the last whole batch ends.
    end: usize,
    /// The offset behind it; `None` where there is none.
    next: Option<Offset>,
    /// Why the walk ended.
    stop: Stop,
}

enum Stop {
    /// No bytes are left, or the next batch is beyond what was asked for.
    End,
    /// The next batch needs so many bytes.
    Short { needed: usize },
    /// What follows is no batch.
    Broken(String),
}

fn walk_batches(bytes: &[u8], from: Offset, before: Offset) -> WalkedBatches {
    let mut walked = WalkedBatches { skipped: 0, end: 0, next: None, stop: Stop::End };
    while walked.end < bytes.len() {
        let rest = &bytes[walked.end..];
        let frame = match rest.get(..FRAME_SIZE).map(BatchFrame::parse) {
            None => {
                walked.stop = Stop::Short { needed: BATCH_HEADER_SIZE };
                break;
            }
            Some(Err(error)) => {
                walked.stop = Stop::Broken(error.to_string());
                break;
            }
            Some(Ok(frame)) => frame,
        };
        if frame.base_offset >= before {
            break;
        }
        if rest.len() < frame.size() {
            walked.stop = Stop::Short { needed: frame.size() };
            break;
        }
        let last_offset = match frame.magic {
            MAGIC => match BatchHeader::parse(rest) {
                Ok(header) => header.last_offset(),
                Err(error) => {
                    walked.stop = Stop::Broken(error.to_string());
                    break;
                }
            },
            // A message of before Kafka 0.11 stands for itself, or wraps others and has the last one's offset.
            _ => frame.base_offset,
        };
        walked.end += frame.size();
        if last_offset < from {
            walked.skipped = walked.end;
        } else {
            walked.next = Some(last_offset.next());
        }
    }
    walked
}
