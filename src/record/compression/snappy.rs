//! Snappy in xerial's framing, as Java writes it, and as one bare raw block, as others do.
//!
//! A raw block declares its inflated length up front. Snappy's densest element turns 3 bytes into 64, so a
//! block that claims more than that can be is refused before anything is allocated.

use super::super::error::BatchError;
use super::{Aside, Codec};

/// Xerial's magic, version and lowest compatible version.
pub(super) const XERIAL_HEADER: [u8; 16] =
    [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Inflated bytes of one block in what we write, as in Java.
pub(super) const BLOCK_SIZE: usize = 32 * 1024;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

#[derive(Default)]
pub(super) struct Context {
    decoder: snap::raw::Decoder,
    pub(super) aside: Aside,
}

pub(super) struct Stream<'s> {
    input: &'s [u8],
    is_framed: bool,
    cap: u64,
    decoder: &'s mut snap::raw::Decoder,
    aside: &'s mut Aside,
}

impl<'s> Stream<'s> {
    pub(super) fn new(input: &'s [u8], cap: u64, context: &'s mut Context) -> Result<Self, BatchError> {
        context.aside.clear();
        if input.is_empty() {
            return Err(Codec::Snappy.broken("it is empty"));
        }
        let is_framed = input.starts_with(&XERIAL_MAGIC);
        let input = if is_framed { after_header(input)? } else { input };
        Ok(Self { input, is_framed, cap, decoder: &mut context.decoder, aside: &mut context.aside })
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        loop {
            let held = self.aside.drain(out);
            if held > 0 {
                return Ok(held);
            }
            let Some(block) = self.next_block()? else { return Ok(0) };
            let len = self.inflated_len(block)?;
            let fits = len <= out.len();
            let target = if fits { &mut out[..len] } else { self.aside.room(len) };
            let count =
                self.decoder.decompress(block, target).map_err(|e| Codec::Snappy.broken(e.to_string()))?;
            if !fits {
                self.aside.hold(count);
            } else if count > 0 {
                return Ok(count);
            }
        }
    }

    /// The next raw block; `None` at the end.
    fn next_block(&mut self) -> Result<Option<&'s [u8]>, BatchError> {
        if self.input.is_empty() {
            return Ok(None);
        }
        if !self.is_framed {
            return Ok(Some(std::mem::take(&mut self.input)));
        }
        // Streams may be concatenated: a header stands where a length would.
        while self.input.starts_with(&XERIAL_MAGIC) {
            self.input = after_header(self.input)?;
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let broken = || Codec::Snappy.broken("it ends inside a block");
        let (length, rest) = self.input.split_first_chunk::<4>().ok_or_else(broken)?;
        let size = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| Codec::Snappy.broken("a block of negative length"))?;
        let (block, rest) = rest.split_at_checked(size).ok_or_else(broken)?;
        self.input = rest;
        Ok(Some(block))
    }

    /// The length that `block` declares, once it is known to be possible.
    fn inflated_len(&self, block: &[u8]) -> Result<usize, BatchError> {
        let len = snap::raw::decompress_len(block).map_err(|e| Codec::Snappy.broken(e.to_string()))?;
        if len as u64 > self.cap {
            return Err(BatchError::InflatesTooFar { codec: Codec::Snappy, limit: self.cap });
        }
        if len > block.len().saturating_mul(64).div_ceil(3) {
            return Err(
                Codec::Snappy.broken(format!("{} bytes cannot hold the {len} they claim", block.len()))
            );
        }
        Ok(len)
    }
}

fn after_header(input: &[u8]) -> Result<&[u8], BatchError> {
    input.get(XERIAL_HEADER.len()..).ok_or_else(|| Codec::Snappy.broken("the header ends early"))
}
