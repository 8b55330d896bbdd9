//! Frames off the wire: `size i32, payload`. Pure state; the connection does the reading.
//!
//! The buffer never grows by more than what came doubles it: a declared size of 100 MB with four bytes behind
//! it costs 1 MiB of address space that is never touched. A frame larger than [`CHUNK_BYTES`] gets a buffer
//! of its own, so that whoever handles it may take the bytes over without copying.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// What is read at a time while no large frame is being received.
pub const CHUNK_BYTES: usize = 32 << 10;
/// How much room a large frame gets at first; it doubles when that is full.
const LARGE_FIRST_BYTES: usize = 1 << 20;
/// The size prefix.
const SIZE_BYTES: usize = 4;
/// What a peer must at least deliver while it sends a frame, once the grace period is over.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// Bytes that are no Kafka frame. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A size below zero.
    #[error("a frame of {0} bytes was announced")]
    Negative(i32),
    /// No room for a request header.
    #[error("a frame of {0} bytes is too short for a request")]
    TooShort(usize),
    /// Beyond `socket.request.max.bytes`.
    #[error("a frame of {size} bytes was announced, more than the {max} allowed by socket.request.max.bytes")]
    TooLarge {
        /// The announced size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// 0x16 0x03: the client speaks TLS to a listener that does not.
    #[error(
        "the client began a TLS handshake, but this listener speaks plain text: set the client's security.protocol to PLAINTEXT"
    )]
    TlsHello,
    /// `GET `, `POST` and the like.
    #[error("the client speaks HTTP, not Kafka's protocol")]
    Http,
}

/// Collects bytes and cuts them into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    /// The size of the frame whose prefix has been read.
    announced: Option<usize>,
    size_max: usize,
}

impl FrameReader {
    /// A reader of frames up to `size_max` bytes.
    #[must_use]
    pub fn new(size_max: usize) -> Self {
        Self { buffer: BytesMut::new(), announced: None, size_max }
    }

    /// The next whole frame, without its prefix; `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`], as soon as the prefix shows it.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let size = match self.announced {
            Some(size) => size,
            None if self.buffer.len() < SIZE_BYTES => return Ok(None),
            None => {
                let size = self.read_size()?;
                self.announced = Some(size);
                size
            }
        };
        if self.buffer.len() < size {
            return Ok(None);
        }
        self.announced = None;
        let frame = self.buffer.split_to(size).freeze();
        if self.buffer.is_empty() {
            // Lets the frame be the only owner of its memory, and an idle connection own none.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Where to read to, and how many bytes at most.
    pub fn room(&mut self) -> (&mut BytesMut, usize) {
        match self.announced {
            Some(size) if size > CHUNK_BYTES => {
                let missing = size - self.buffer.len();
                self.make_large_room(size);
                let room = self.buffer.capacity() - self.buffer.len();
                (&mut self.buffer, missing.min(room))
            }
            _ => {
                if self.buffer.capacity() - self.buffer.len() < CHUNK_BYTES / 4 {
                    self.buffer.reserve(CHUNK_BYTES);
                }
                let room = self.buffer.capacity() - self.buffer.len();
                (&mut self.buffer, room)
            }
        }
    }

    /// Gives the room back where nothing is in it: a connection that waits for its peer holds none.
    pub fn release_room(&mut self) {
        if self.buffer.is_empty() && self.announced.is_none() {
            self.buffer = BytesMut::new();
        }
    }

    /// Bytes held for a large frame that is not whole: what the budgets count.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        if self.buffer.len() <= CHUNK_BYTES { 0 } else { self.buffer.len() }
    }

    /// Whether a frame has begun and is not whole.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.announced.is_some() || !self.buffer.is_empty()
    }

    /// How long the frame in progress may take in all, given the grace period.
    #[must_use]
    pub fn time_allowed(&self, grace: Duration) -> Duration {
        grace + Duration::from_secs(self.buffer.len() as u64 / SLOWEST_BYTES_PER_SECOND)
    }

    fn read_size(&mut self) -> Result<usize, FrameError> {
        let prefix = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        let announced = i32::from_be_bytes(prefix);
        let size = usize::try_from(announced).map_err(|_| FrameError::Negative(announced))?;
        if size > self.size_max {
            return Err(match &prefix {
                [0x16, 0x03, ..] => FrameError::TlsHello,
                b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" => FrameError::Http,
                _ => FrameError::TooLarge { size, max: self.size_max },
            });
        }
        if size < 8 {
            return Err(FrameError::TooShort(size));
        }
        self.buffer.advance(SIZE_BYTES);
        Ok(size)
    }

    /// Room for at least one more byte of a frame of `size` bytes, in a buffer of its own.
    fn make_large_room(&mut self, size: usize) {
        if self.buffer.len() < self.buffer.capacity() && self.buffer.capacity() > CHUNK_BYTES {
            return;
        }
        let capacity = size.min((self.buffer.len() * 2).max(LARGE_FIRST_BYTES));
        let mut larger = BytesMut::with_capacity(capacity);
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;

    use super::*;

    fn feed(reader: &mut FrameReader, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (buffer, room) = reader.room();
            let now = bytes.len().min(room);
            buffer.put_slice(&bytes[..now]);
            bytes = &bytes[now..];
        }
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = i32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let payloads: Vec<Vec<u8>> =
            [8, 9, 100, CHUNK_BYTES, CHUNK_BYTES + 1, 3 << 20, 12].iter().map(|&n| vec![7; n]).collect();
        let wire: Vec<u8> = payloads.iter().flat_map(|p| frame(p)).collect();
        for step in [1_000, 4_096, 70_000, wire.len()] {
            let mut reader = FrameReader::new(100 << 20);
            let mut seen = Vec::new();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (buffer, room) = reader.room();
                let now = rest.len().min(room).min(step);
                buffer.put_slice(&rest[..now]);
                rest = &rest[now..];
                while let Some(frame) = reader.next_frame().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            assert!(seen == payloads, "cut into pieces of {step}");
            assert!(!reader.is_partial());
        }
    }

    #[test]
    fn a_large_frame_owns_its_memory() {
        let mut reader = FrameReader::new(100 << 20);
        let wire = frame(&vec![1; 900_000]);
        let mut rest = &wire[..];
        let frame = loop {
            let (buffer, room) = reader.room();
            let now = rest.len().min(room).min(10_000);
            buffer.put_slice(&rest[..now]);
            rest = &rest[now..];
            if let Some(frame) = reader.next_frame().unwrap() {
                break frame;
            }
        };
        assert!(frame.try_into_mut().is_ok());
    }

    #[test]
    fn s1_8_a_declared_size_alone_allocates_next_to_nothing() {
        let mut reader = FrameReader::new(100 << 20);
        feed(&mut reader, &(100_i32 << 20).to_be_bytes());
        assert_eq!(reader.next_frame().unwrap(), None);
        let (buffer, _) = reader.room();
        assert!(buffer.capacity() <= LARGE_FIRST_BYTES);
    }

    #[test]
    fn s1_8_sizes_that_are_none_are_refused_at_four_bytes() {
        let refused = |prefix: [u8; 4]| {
            let mut reader = FrameReader::new(100 << 20);
            feed(&mut reader, &prefix);
            reader.next_frame().unwrap_err()
        };
        assert_eq!(refused((-1_i32).to_be_bytes()), FrameError::Negative(-1));
        assert_eq!(refused(i32::MIN.to_be_bytes()), FrameError::Negative(i32::MIN));
        assert_eq!(refused(0_i32.to_be_bytes()), FrameError::TooShort(0));
        assert!(matches!(refused(i32::MAX.to_be_bytes()), FrameError::TooLarge { .. }));
        assert_eq!(refused([0x16, 0x03, 0x01, 0x02]), FrameError::TlsHello);
        assert_eq!(refused(*b"GET "), FrameError::Http);
    }
}
