//! Compressing a whole piece: what Java's clients read, and for lz4 and snappy the very framing they write.

use bytes::Bytes;
use flate2::{Compress, Compression as DeflateLevel, Crc, FlushCompress, Status};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use super::super::error::BatchError;
use super::{Codec, Compression, lz4, snappy};

/// Header of a gzip member as Java writes it: no name, no time, no operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];

/// One codec at one level, with the state it keeps between pieces. Made once, used for many batches.
pub struct Compressor {
    compression: Compression,
    state: State,
}

enum State {
    None,
    Gzip(Box<Compress>),
    Snappy(Box<snap::raw::Encoder>),
    Lz4(Box<CompressTable>),
    Zstd(Option<CCtx<'static>>),
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Compressor").field(&self.compression).finish()
    }
}

impl Compressor {
    /// Sets the codec up.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        let level = compression.level();
        let state = match compression.codec() {
            Codec::None => State::None,
            Codec::Gzip => {
                let level = u32::try_from(level).map_or(DeflateLevel::default(), DeflateLevel::new);
                State::Gzip(Box::new(Compress::new(level, false)))
            }
            Codec::Snappy => State::Snappy(Box::new(snap::raw::Encoder::new())),
            Codec::Lz4 => State::Lz4(Box::new(CompressTable::large())),
            Codec::Zstd => State::Zstd(CCtx::try_create().map(|mut context| {
                // A level out of range is clamped by zstd itself; it cannot fail otherwise.
                let _ = context.set_parameter(CParameter::CompressionLevel(level));
                context
            })),
        };
        Self { compression, state }
    }

    /// What it was made with.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends the compressed form of `input` to `out`.
    ///
    /// # Errors
    /// `Inflate` with the codec's own words; none is known to happen short of memory running out.
    pub fn compress_into(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
        match &mut self.state {
            State::None => out.extend_from_slice(input),
            State::Gzip(deflate) => write_gzip(deflate, input, out)?,
            State::Snappy(encoder) => write_xerial(encoder, input, out)?,
            State::Lz4(table) => write_lz4_frame(table, input, out)?,
            State::Zstd(context) => write_zstd(context.as_mut(), input, out)?,
        }
        Ok(())
    }
}

/// Compresses one piece with a context of its own.
///
/// # Errors
/// As [`Compressor::compress_into`].
pub fn compress(compression: Compression, input: &[u8]) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    Compressor::new(compression).compress_into(input, &mut out)?;
    Ok(out.into())
}

fn write_gzip(deflate: &mut Compress, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut crc = Crc::new();
    crc.update(input);
    let length = input.len() as u32;
    out.extend_from_slice(&GZIP_HEADER);
    deflate.reset();
    loop {
        out.reserve((input.len() / 2).max(256));
        let read_before = deflate.total_in();
        let status = deflate
            .compress_vec(input, out, FlushCompress::Finish)
            .map_err(|error| Codec::Gzip.broken(error.to_string()))?;
        input = &input[(deflate.total_in() - read_before) as usize..];
        if status == Status::StreamEnd {
            break;
        }
    }
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

fn write_xerial(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    out.extend_from_slice(&snappy::XERIAL_HEADER);
    for block in input.chunks(snappy::BLOCK_SIZE) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let size = encoder
            .compress(block, &mut out[block_at..])
            .map_err(|error| Codec::Snappy.broken(error.to_string()))?;
        out[length_at..block_at].copy_from_slice(&(size as u32).to_be_bytes());
        out.truncate(block_at + size);
    }
    Ok(())
}

fn write_lz4_frame(table: &mut CompressTable, input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    out.extend_from_slice(&lz4::FRAME_HEADER);
    for block in input.chunks(lz4::BLOCK_SIZE) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + get_maximum_output_size(block.len()), 0);
        let size = compress_into_with_table(block, &mut out[block_at..], table)
            .map_err(|error| Codec::Lz4.broken(error.to_string()))?;
        // What did not shrink is stored as it is, as the frame format asks for.
        let (size, length) = if size < block.len() {
            (size, size as u32)
        } else {
            out[block_at..block_at + block.len()].copy_from_slice(block);
            (block.len(), block.len() as u32 | lz4::STORED_BIT)
        };
        out[length_at..block_at].copy_from_slice(&length.to_le_bytes());
        out.truncate(block_at + size);
    }
    out.extend_from_slice(&lz4::END_MARK);
    Ok(())
}

fn write_zstd(
    context: Option<&mut CCtx<'static>>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let context = context.ok_or_else(|| Codec::Zstd.broken("out of memory"))?;
    let at = out.len();
    out.resize(at + compress_bound(input.len()), 0);
    let size =
        context.compress2(&mut out[at..], input).map_err(|code| Codec::Zstd.broken(get_error_name(code)))?;
    out.truncate(at + size);
    Ok(())
}
