//! A sliding view on an inflating stream. It stays at its starting size for whoever skips through records, and
//! grows, with bytes that really came, for whoever needs a whole record in one piece.

use super::super::error::{BatchError, RecordFault};
use super::super::varint::{VARLONG_SIZE_MAX, take_varint, take_varlong};
use super::Inflater;

/// Two LZ4 blocks of the size that Java writes: there is room for a whole one beside what is left.
const WINDOW_SIZE: usize = 128 * 1024;
/// What is kept between batches; a window that a giant record blew up shrinks back.
const KEPT_SIZE_MAX: usize = 1024 * 1024;

pub(crate) struct Window<'s> {
    inflater: Inflater<'s>,
    buffer: &'s mut Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the stream that lie before `buffer[0]`.
    passed: u64,
    ended: bool,
}

impl<'s> Window<'s> {
    pub(super) fn new(inflater: Inflater<'s>, buffer: &'s mut Vec<u8>) -> Self {
        if buffer.len() > KEPT_SIZE_MAX {
            buffer.truncate(WINDOW_SIZE);
            buffer.shrink_to_fit();
        }
        if buffer.len() < WINDOW_SIZE {
            buffer.resize(WINDOW_SIZE, 0);
        }
        Self { inflater, buffer, start: 0, end: 0, passed: 0, ended: false }
    }

    /// What is inflated and not yet consumed.
    #[inline]
    pub(crate) fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves past `count` of the available bytes.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
    }

    /// Where in the stream the first available byte stands.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.passed + self.start as u64
    }

    /// Makes more bytes available, without growing; false at the end of the stream. The window must not be full
    /// of unconsumed bytes: who needs them in one piece calls [`Window::hold`].
    pub(crate) fn refill(&mut self) -> Result<bool, BatchError> {
        if self.ended {
            return Ok(false);
        }
        self.slide();
        let end = self.end;
        let count = self.inflater.fill(&mut self.buffer[end..])?;
        self.end += count;
        self.ended = count == 0;
        Ok(!self.ended)
    }

    /// Makes at least `count` bytes available in one piece, growing as they come; false where the stream ends
    /// before.
    pub(crate) fn hold(&mut self, count: usize) -> Result<bool, BatchError> {
        while self.end - self.start < count {
            if self.end - self.start == self.buffer.len() {
                let grown = self.buffer.len() * 2;
                self.buffer.resize(grown, 0);
            }
            if !self.refill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing is left. Reads on if need be, so that what follows the piece is looked at too.
    pub(crate) fn is_at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.available().is_empty() && !self.refill()?)
    }

    /// Moves past `count` bytes of the stream, inflating them as far as need be.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<bool, BatchError> {
        loop {
            let here = (self.end - self.start) as u64;
            if count <= here {
                self.start += count as usize;
                return Ok(true);
            }
            count -= here;
            self.start = self.end;
            if !self.refill()? {
                return Ok(false);
            }
        }
    }

    /// Takes a varint off the front of the stream.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<Result<i32, RecordFault>, BatchError> {
        self.take(take_varint)
    }

    /// Takes a varlong off the front of the stream.
    #[inline]
    pub(crate) fn varlong(&mut self) -> Result<Result<i64, RecordFault>, BatchError> {
        self.take(take_varlong)
    }

    #[inline]
    fn take<T>(
        &mut self,
        parse: impl Fn(&mut &[u8]) -> Result<T, RecordFault>,
    ) -> Result<Result<T, RecordFault>, BatchError> {
        if self.end - self.start < VARLONG_SIZE_MAX {
            self.hold(VARLONG_SIZE_MAX)?;
        }
        let mut rest = &self.buffer[self.start..self.end];
        let taken = parse(&mut rest);
        self.start = self.end - rest.len();
        Ok(taken)
    }

    /// Brings the unconsumed bytes to the front, so that the rest is room.
    fn slide(&mut self) {
        if self.start == 0 {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.passed += self.start as u64;
        self.end -= self.start;
        self.start = 0;
    }
}
