//! The LZ4 frame as Kafka reads it: independent blocks, header checksum checked, block checksums checked where
//! they are set, the content checksum passed over (the batch has its own CRC).

use twox_hash::XxHash32;

use super::super::error::BatchError;
use super::{Aside, Codec};

/// Frame magic, flags (version 1, independent blocks, no checksums), 64 KiB blocks, header checksum: the seven
/// bytes that Java's producer writes too.
pub(super) const FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Bytes of one block in what we write.
pub(super) const BLOCK_SIZE: usize = 64 * 1024;
/// Set in a block's length where the block is stored as it is.
pub(super) const STORED_BIT: u32 = 1 << 31;
/// A block of length zero ends the frame.
pub(super) const END_MARK: [u8; 4] = [0; 4];

const FRAME_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// A block that did not fit the window.
#[derive(Default)]
pub(super) struct Context {
    aside: Aside,
}

pub(super) struct Stream<'s> {
    input: &'s [u8],
    block_size_max: usize,
    has_block_checksums: bool,
    has_content_checksum: bool,
    ended: bool,
    aside: &'s mut Aside,
}

impl<'s> Stream<'s> {
    pub(super) fn new(input: &'s [u8], context: &'s mut Context) -> Result<Self, BatchError> {
        context.aside.clear();
        let broken = |why: &str| Codec::Lz4.broken(why);
        let [magic @ .., flags, sizes] = input.first_chunk::<6>().ok_or_else(|| broken("no frame header"))?;
        if *magic != FRAME_MAGIC {
            return Err(broken("no LZ4 frame magic"));
        }
        // Version 01; the bit below dictionary id is reserved.
        if flags >> 6 != 1 || flags & 0b10 != 0 {
            return Err(broken("a frame version or flag that does not exist"));
        }
        if flags & 0x20 == 0 {
            return Err(broken("blocks that depend on each other are not supported"));
        }
        if flags & 1 != 0 {
            return Err(broken("dictionaries are not supported"));
        }
        let block_size_max = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(broken("a block size that does not exist")),
        };
        // The content size, where there is one, is a claim that nobody needs.
        let described = if flags & 0x08 == 0 { 6 } else { 14 };
        let (header, rest) =
            input.split_at_checked(described + 1).ok_or_else(|| broken("the frame header ends early"))?;
        let checksum = (XxHash32::oneshot(0, &header[4..described]) >> 8) as u8;
        if header[described] != checksum {
            return Err(broken("the frame header's checksum is wrong"));
        }
        Ok(Self {
            input: rest,
            block_size_max,
            has_block_checksums: flags & 0x10 != 0,
            has_content_checksum: flags & 0x04 != 0,
            ended: false,
            aside: &mut context.aside,
        })
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        loop {
            let held = self.aside.drain(out);
            if held > 0 || self.ended {
                return Ok(held);
            }
            let Some((block, is_stored)) = self.next_block()? else {
                self.end()?;
                return Ok(0);
            };
            if is_stored {
                self.aside.room(block.len()).copy_from_slice(block);
                self.aside.hold(block.len());
            } else if out.len() >= self.block_size_max {
                let count = inflate(block, &mut out[..self.block_size_max])?;
                if count > 0 {
                    return Ok(count);
                }
            } else {
                let count = inflate(block, self.aside.room(self.block_size_max))?;
                self.aside.hold(count);
            }
        }
    }

    /// The next block and whether it is stored as it is; `None` at the end mark.
    fn next_block(&mut self) -> Result<Option<(&'s [u8], bool)>, BatchError> {
        let length = self.take_u32().ok_or_else(|| Codec::Lz4.broken("it ends early"))?;
        if length == 0 {
            return Ok(None);
        }
        let size = (length & !STORED_BIT) as usize;
        if size > self.block_size_max {
            return Err(
                Codec::Lz4.broken(format!("a block of {size} bytes; {} is the most", self.block_size_max))
            );
        }
        let (block, rest) =
            self.input.split_at_checked(size).ok_or_else(|| Codec::Lz4.broken("it ends inside a block"))?;
        self.input = rest;
        if self.has_block_checksums && self.take_u32() != Some(XxHash32::oneshot(0, block)) {
            return Err(Codec::Lz4.broken("a block's checksum is wrong"));
        }
        Ok(Some((block, length & STORED_BIT != 0)))
    }

    fn end(&mut self) -> Result<(), BatchError> {
        self.ended = true;
        if self.has_content_checksum && self.take_u32().is_none() {
            return Err(Codec::Lz4.broken("it ends inside the content checksum"));
        }
        if self.input.is_empty() { Ok(()) } else { Err(Codec::Lz4.broken("bytes follow the frame")) }
    }

    fn take_u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.input.split_first_chunk::<4>()?;
        self.input = rest;
        Some(u32::from_le_bytes(*bytes))
    }
}

fn inflate(block: &[u8], out: &mut [u8]) -> Result<usize, BatchError> {
    lz4_flex::block::decompress_into(block, out).map_err(|error| Codec::Lz4.broken(error.to_string()))
}
