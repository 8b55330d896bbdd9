//! Gzip (RFC 1952) over raw deflate: several members one after another, as Java reads them, each held against
//! its CRC-32 and length.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::super::error::BatchError;
use super::Codec;

const FIXED_HEADER_SIZE: usize = 10;
const TRAILER_SIZE: usize = 8;
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// The inflate state, about 40 KiB, kept between batches.
#[derive(Default)]
pub(super) struct Context {
    inflate: Option<Decompress>,
}

pub(super) struct Stream<'s> {
    input: &'s [u8],
    inflate: &'s mut Decompress,
    crc: Crc,
    inside_member: bool,
    /// One member at least: an empty piece is broken, not empty.
    members: u32,
}

impl<'s> Stream<'s> {
    pub(super) fn new(input: &'s [u8], context: &'s mut Context) -> Self {
        let inflate = context.inflate.get_or_insert_with(|| Decompress::new(false));
        Self { input, inflate, crc: Crc::new(), inside_member: false, members: 0 }
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        loop {
            if !self.inside_member {
                if self.input.is_empty() && self.members > 0 {
                    return Ok(0);
                }
                self.begin_member()?;
            }
            let (read_before, written_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(self.input, out, FlushDecompress::None)
                .map_err(|error| Codec::Gzip.broken(error.to_string()))?;
            let read = (self.inflate.total_in() - read_before) as usize;
            let written = (self.inflate.total_out() - written_before) as usize;
            self.input = &self.input[read..];
            self.crc.update(&out[..written]);
            if status == Status::StreamEnd {
                self.end_member()?;
            } else if read == 0 && written == 0 {
                return Err(Codec::Gzip.broken("it ends early"));
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }

    fn begin_member(&mut self) -> Result<(), BatchError> {
        let rest = header_rest(self.input).ok_or_else(|| {
            Codec::Gzip.broken(if self.members == 0 {
                "no gzip header"
            } else {
                "bytes follow the last member"
            })
        })?;
        self.input = rest;
        self.inflate.reset(false);
        self.crc.reset();
        self.inside_member = true;
        self.members += 1;
        Ok(())
    }

    fn end_member(&mut self) -> Result<(), BatchError> {
        let Some((trailer, rest)) = self.input.split_first_chunk::<TRAILER_SIZE>() else {
            return Err(Codec::Gzip.broken("it ends inside the trailer"));
        };
        let [a, b, c, d, e, f, g, h] = *trailer;
        if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() {
            return Err(Codec::Gzip.broken("CRC-32 mismatch"));
        }
        if u32::from_le_bytes([e, f, g, h]) != self.inflate.total_out() as u32 {
            return Err(Codec::Gzip.broken("the length in the trailer is wrong"));
        }
        self.input = rest;
        self.inside_member = false;
        Ok(())
    }
}

/// What follows a member's header; `None` where there is no whole one.
fn header_rest(input: &[u8]) -> Option<&[u8]> {
    let (fixed, mut rest) = input.split_first_chunk::<FIXED_HEADER_SIZE>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return None };
    if flags & EXTRA != 0 {
        let (size, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*size))..)?;
    }
    for _ in 0..(flags & (NAME | COMMENT)).count_ones() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        rest = &rest[end + 1..];
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
