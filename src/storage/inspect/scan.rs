//! One batch after another from a file of batches, whatever their magic, each whole in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::super::disk::{Access, Disk, DiskFile};
use crate::record::{BatchError, BatchFrame, BatchRef, FRAME_SIZE, LOG_OVERHEAD, MAGIC};
use crate::types::Offset;

/// What is read at once; batches that are larger are read whole.
const WINDOW_SIZE: usize = 1024 * 1024;
/// The smallest length field that leads to another entry: that of an empty magic 0 message.
const LENGTH_MIN: i32 = 14;

/// Why a scan ended before the file did.
#[derive(Debug, Error)]
pub enum ScanFault {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing that could be a batch, and no length that leads to the next one.
    #[error("position {position}: no batch begins here: its length is {length}, below {LENGTH_MIN}")]
    Lost {
        /// Where in the file.
        position: u64,
        /// The length field there.
        length: i32,
    },
}

/// One entry of a log: the bytes that its length field spans.
#[derive(Debug, Clone, Copy)]
pub struct RawBatch<'a> {
    /// Where in the file it begins.
    pub position: u64,
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> RawBatch<'a> {
    /// Base offset, length and magic.
    ///
    /// # Errors
    /// An unknown magic, or a length too small for it.
    pub fn frame(&self) -> Result<BatchFrame, BatchError> {
        BatchFrame::parse(self.bytes)
    }

    /// The batch, if it is of magic 2.
    ///
    /// # Errors
    /// What [`BatchRef::first`] finds.
    pub fn batch(&self) -> Result<BatchRef<'a>, BatchError> {
        BatchRef::first(self.bytes)
    }

    /// Offset of the last record, whatever the magic.
    ///
    /// # Errors
    /// As [`RawBatch::frame`].
    pub fn last_offset(&self) -> Result<Offset, BatchError> {
        let frame = self.frame()?;
        match frame.magic {
            MAGIC => Ok(self.batch()?.header.last_offset()),
            _ => Ok(frame.base_offset),
        }
    }
}

/// Reads a file of batches from front to back.
#[derive(Debug)]
pub struct BatchScan {
    file: Arc<dyn DiskFile>,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// How much of the window is filled.
    filled: usize,
}

impl BatchScan {
    /// Opens `path` for a scan that begins at `from`, where a batch must begin, and sees no more than the first
    /// `bytes_max` bytes of the file. A file that grows meanwhile is seen as long as it is now.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(disk: &dyn Disk, path: &Path, from: u64, bytes_max: u64) -> io::Result<Self> {
        let file = disk.open(path, Access::Read)?;
        let end = file.len()?.min(bytes_max);
        Ok(Self { file, position: from.min(end), end, window: Vec::new(), window_at: 0, filled: 0 })
    }

    /// Goes on at `position`, where a batch must begin. What is in the window already is not read again.
    pub fn seek(&mut self, position: u64) {
        self.position = position.min(self.end);
    }

    /// Where the next batch would begin; after the end, where the last whole batch ended.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes behind [`BatchScan::position`]: after the end, those that are no whole batch.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        self.end - self.position
    }

    /// The next entry; `None` where no whole one is left. Does not look into it beyond its length.
    ///
    /// # Errors
    /// [`ScanFault`]; the scan is over then.
    #[allow(clippy::should_implement_trait, reason = "each batch borrows the scan")]
    pub fn next(&mut self) -> Result<Option<RawBatch<'_>>, ScanFault> {
        let position = self.position;
        let left = self.end - position;
        if left <= FRAME_SIZE as u64 {
            return Ok(None);
        }
        if !self.hold(position, FRAME_SIZE)? {
            return Ok(None);
        }
        let [.., a, b, c, d] = self.held(position, LOG_OVERHEAD) else { return Ok(None) };
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        if length < LENGTH_MIN {
            self.end = position;
            return Err(ScanFault::Lost { position, length });
        }
        let size = LOG_OVERHEAD + length as usize;
        if size as u64 > left {
            return Ok(None);
        }
        if !self.hold(position, size)? {
            // The file was cut under us: what is gone is not there.
            self.end = position;
            return Ok(None);
        }
        self.position = position + size as u64;
        Ok(Some(RawBatch { position, bytes: self.held(position, size) }))
    }

    /// Brings `size` bytes at `position`, which lie before `end`, into the window; false where the file was cut
    /// meanwhile.
    fn hold(&mut self, position: u64, size: usize) -> io::Result<bool> {
        let is_held =
            position >= self.window_at && position - self.window_at + size as u64 <= self.filled as u64;
        if !is_held {
            let wanted =
                WINDOW_SIZE.max(size).min(usize::try_from(self.end - position).unwrap_or(usize::MAX));
            if self.window.len() < wanted {
                self.window.resize(wanted, 0);
            }
            self.filled = self.file.read_at(&mut self.window[..wanted], position)?;
            self.window_at = position;
        }
        Ok(position - self.window_at + size as u64 <= self.filled as u64)
    }

    /// Bytes that are in the window.
    fn held(&self, position: u64, size: usize) -> &[u8] {
        let at = (position - self.window_at) as usize;
        &self.window[at..at + size]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::RealDisk;
    use super::*;
    use crate::record::{BatchBuilder, Compression};

    fn batch(value_size: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.append(0, None, Some(&vec![7; value_size]), []);
        builder.build().unwrap().to_vec()
    }

    fn scan(bytes: &[u8], see: impl FnOnce(&mut BatchScan)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        RealDisk::new()
            .open(&path, Access::Create)
            .unwrap()
            .write_at(&mut [io::IoSlice::new(bytes)], 0)
            .unwrap();
        see(&mut BatchScan::open(&*RealDisk::new(), &path, 0, u64::MAX).unwrap());
    }

    fn sizes(scan: &mut BatchScan) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(raw) = scan.next().unwrap() {
            raw.batch().unwrap().check_crc().unwrap();
            sizes.push(raw.bytes.len());
        }
        sizes
    }

    #[test]
    fn batches_larger_than_the_window_come_whole() {
        let batches = [batch(10), batch(3 * WINDOW_SIZE), batch(WINDOW_SIZE - 100), batch(0)];
        scan(&batches.concat(), |scan| {
            assert_eq!(sizes(scan), batches.each_ref().map(Vec::len));
            assert_eq!(scan.bytes_left(), 0);
            scan.seek(batches[0].len() as u64);
            assert_eq!(sizes(scan).len(), 3);
        });
    }

    #[test]
    fn a_torn_end_is_left_and_counted() {
        let whole = batch(100);
        for cut in 1..whole.len() {
            scan(&[&whole[..], &whole[..cut]].concat(), |scan| {
                assert_eq!(sizes(scan).len(), 1);
                assert_eq!((scan.position(), scan.bytes_left()), (whole.len() as u64, cut as u64));
            });
        }
    }

    #[test]
    fn zeros_are_no_batch() {
        scan(&[0; 100], |scan| {
            assert!(matches!(scan.next(), Err(ScanFault::Lost { position: 0, length: 0 })));
            assert!(matches!(scan.next(), Ok(None)), "the scan is over");
        });
    }

    #[test]
    fn s1_8_a_length_beyond_the_file_allocates_nothing() {
        let mut lying = batch(10);
        lying[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
        scan(&lying, |scan| {
            assert!(matches!(scan.next(), Ok(None)));
            assert!(scan.window.len() <= WINDOW_SIZE);
        });
    }
}
