//! Whole batches in memory: borrowed, owned, and one after another.

use bytes::Bytes;

use super::compression::{InflateLimits, Scratch};
use super::error::BatchError;
use super::header::{BATCH_HEADER_SIZE, BatchHeader, CRC_FROM};
use super::reader::{OwnedRecords, RecordReader};

/// One whole batch, borrowed. `bytes` holds exactly [`BatchHeader::size`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRef<'a> {
    /// The parsed header.
    pub header: BatchHeader,
    /// From base offset to the last record.
    pub bytes: &'a [u8],
}

impl<'a> BatchRef<'a> {
    /// The batch at the front of `bytes`; what follows it is left alone.
    ///
    /// # Errors
    /// What [`BatchHeader::parse`] finds, or `Truncated` where the batch is longer than `bytes`.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.size()) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Truncated { needed: header.size(), available: bytes.len() }),
        }
    }

    /// The CRC-32C that the bytes give.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes[CRC_FROM..])
    }

    /// Compares the CRC field with the bytes.
    ///
    /// # Errors
    /// `CrcMismatch`.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = self.computed_crc();
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::CrcMismatch { stored: self.header.crc, computed })
        }
    }

    /// What follows the header: the records, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_SIZE..]
    }

    /// Reads the records one after another, lent from the batch itself or, where it is compressed, from a
    /// window in `scratch`. Does not check the CRC.
    ///
    /// # Errors
    /// `UnknownCodec`, `InvalidCount`, or a compressed piece whose head is broken.
    pub fn records<'s>(
        &self,
        limits: &InflateLimits,
        scratch: &'s mut Scratch,
    ) -> Result<RecordReader<'s>, BatchError>
    where
        'a: 's,
    {
        RecordReader::new(&self.header, self.payload(), limits, scratch)
    }
}

/// One whole batch that shares ownership of its bytes: its records outlive the borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The parsed header.
    pub header: BatchHeader,
    /// From base offset to the last record.
    pub bytes: Bytes,
}

impl Batch {
    /// The batch at the front of `bytes`, sharing them.
    ///
    /// # Errors
    /// As [`BatchRef::first`].
    pub fn first(bytes: &Bytes) -> Result<Self, BatchError> {
        let BatchRef { header, bytes: exact } = BatchRef::first(bytes)?;
        Ok(Self { header, bytes: bytes.slice(..exact.len()) })
    }

    /// The same batch, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> BatchRef<'_> {
        BatchRef { header: self.header, bytes: &self.bytes }
    }

    /// Reads the records as owned values that share the batch's bytes: no copy where it is not compressed,
    /// one inflated buffer (under the cap) where it is.
    ///
    /// # Errors
    /// As [`BatchRef::records`], and whatever inflating meets.
    pub fn records(&self, limits: &InflateLimits) -> Result<OwnedRecords, BatchError> {
        OwnedRecords::new(&self.header, &self.bytes.slice(BATCH_HEADER_SIZE..), limits)
    }
}

/// The batches that stand one after another in `bytes`.
///
/// Ends at the first error. A batch cut off at the end is `Truncated`: the normal end of a fetch, and for the
/// caller to ignore there.
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, failed: false }
}

/// Iterator of [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    /// What was not yet read: after the end, the bytes behind the last whole batch.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchRef<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.failed {
            return None;
        }
        let first = BatchRef::first(self.rest);
        match &first {
            Ok(batch) => self.rest = &self.rest[batch.bytes.len()..],
            Err(_) => self.failed = true,
        }
        Some(first)
    }
}
