//! Walks the batches of a log file by their headers, reading no more than it needs.

use std::io;
use std::path::Path;

use super::disk::DiskFile;
use super::error::StorageError;
use crate::record::{BATCH_HEADER_SIZE, BatchFrame, BatchHeader, FRAME_SIZE, MAGIC, NO_TIMESTAMP};
use crate::types::Offset;

/// A look-up scans about one index interval: a window of this size rarely has to be filled twice.
pub(super) const LOOKUP_WINDOW: usize = 4_096;
/// For walks over whole segments.
pub(super) const WALK_WINDOW: usize = 256 * 1_024;

/// One entry of a log, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanned {
    pub(super) position: u64,
    pub(super) size: u64,
    pub(super) base_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) max_timestamp_ms: i64,
    /// `None` for magic 0 and 1, which only logs from before Kafka 0.11 hold.
    pub(super) header: Option<BatchHeader>,
}

impl Scanned {
    pub(super) fn end(&self) -> u64 {
        self.position + self.size
    }

    /// The same entry with another base offset.
    pub(super) fn at(self, base_offset: Offset) -> Self {
        let header = self.header.map(|header| BatchHeader { base_offset, ..header });
        let last_offset = header.map_or(base_offset, |header| header.last_offset());
        Self { base_offset, last_offset, header, ..self }
    }
}

/// Why a scan stopped.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(io::Error),
    /// What stands at `position` is no whole batch.
    Broken {
        position: u64,
        why: String,
    },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ScanError {
    pub(super) fn at(self, path: &Path) -> StorageError {
        match self {
            Self::Io(error) => StorageError::io("read", path)(error),
            Self::Broken { position, why } => {
                StorageError::corrupt(path, format!("position {position}: {why}"))
            }
        }
    }
}

/// See the module. Positions at or behind `end` do not exist for it.
pub(super) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    window: &'a mut [u8],
    window_start: u64,
    window_len: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, position: u64, end: u64, window: &'a mut [u8]) -> Self {
        assert!(window.len() >= BATCH_HEADER_SIZE, "a window holds a header");
        Self { file, position, end, window, window_start: 0, window_len: 0 }
    }

    /// Up to `len` bytes from the current position on; fewer only where the file ends.
    fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        let inside = self.position.checked_sub(self.window_start).map(|at| at as usize);
        let wanted = len.min(usize::try_from(self.end - self.position).unwrap_or(usize::MAX));
        let at = match inside {
            Some(at) if at + wanted <= self.window_len => at,
            _ => {
                let room = self.window.len() as u64;
                let count = room.min(self.end - self.position) as usize;
                self.window_len = self.file.read_at(&mut self.window[..count], self.position)?;
                self.window_start = self.position;
                0
            }
        };
        Ok(&self.window[at..(at + wanted).min(self.window_len)])
    }

    /// The entry at the current position; moves behind it. `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Scanned>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let left = self.end - position;
        let broken = |why: String| ScanError::Broken { position, why };
        let bytes = self.peek(BATCH_HEADER_SIZE)?;
        if bytes.len() < FRAME_SIZE {
            return Err(broken(format!("{} bytes are left, too few for a batch", bytes.len())));
        }
        let frame = BatchFrame::parse(bytes).map_err(|error| broken(error.to_string()))?;
        let size = frame.size() as u64;
        if size > left {
            return Err(broken(format!("the batch is {size} bytes long, {left} are left")));
        }
        let scanned = if frame.magic == MAGIC {
            let header = BatchHeader::parse(bytes).map_err(|error| broken(error.to_string()))?;
            if header.last_offset_delta < 0 || header.base_offset.0 < 0 {
                return Err(broken(format!("offset {} + {}", header.base_offset, header.last_offset_delta)));
            }
            Scanned {
                position,
                size,
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                max_timestamp_ms: header.max_timestamp_ms,
                header: Some(header),
            }
        } else {
            Scanned {
                position,
                size,
                base_offset: frame.base_offset,
                last_offset: frame.base_offset,
                max_timestamp_ms: old_timestamp(frame.magic, bytes),
                header: None,
            }
        };
        self.position = scanned.end();
        Ok(Some(scanned))
    }

    /// The base offset of what stands at the current position; `None` where nothing does that has one.
    pub(super) fn next_base_offset(&mut self) -> io::Result<Option<Offset>> {
        if self.position >= self.end {
            return Ok(None);
        }
        Ok(BatchFrame::parse(self.peek(BATCH_HEADER_SIZE)?).ok().map(|frame| frame.base_offset))
    }

    /// All bytes of an entry that [`Self::next`] gave last: from the window, else read into `spill`.
    pub(super) fn bytes<'b>(&'b mut self, scanned: &Scanned, spill: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        let size = scanned.size as usize;
        if scanned.position < self.window_start || scanned.end() > self.window_start + self.window_len as u64
        {
            if size > self.window.len() {
                // The size was checked against what is left of the file.
                spill.resize(size, 0);
                if self.file.read_at(&mut spill[..size], scanned.position)? != size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                return Ok(&spill[..size]);
            }
            let after = self.position;
            self.position = scanned.position;
            let found = self.peek(size)?.len();
            self.position = after;
            if found != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let at = (scanned.position - self.window_start) as usize;
        Ok(&self.window[at..at + size])
    }
}

/// A magic 1 message keeps its timestamp behind CRC, magic and attributes; magic 0 has none.
fn old_timestamp(magic: i8, bytes: &[u8]) -> i64 {
    match bytes.get(18..26).and_then(|field| field.first_chunk::<8>()) {
        Some(field) if magic == 1 => i64::from_be_bytes(*field),
        _ => NO_TIMESTAMP,
    }
}
