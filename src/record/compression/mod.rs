//! The five codecs: names, levels, compressing a whole piece, and inflating under a cap.
//!
//! Inflating never trusts a declared size: every codec streams into a window that the caller owns, and the sum
//! of what came out is held against a cap. What a codec needs between calls lives in [`Scratch`], so that a
//! connection that walks a million batches sets each codec up once.

mod compressor;
mod gzip;
mod lz4;
mod snappy;
mod window;
mod zstandard;

use bytes::Bytes;
use thiserror::Error;

use super::error::BatchError;

pub use compressor::{Compressor, compress};
pub(super) use window::Window;

/// How the records of a batch are compressed; the id stands in the low three attribute bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in xerial's framing; a bare raw block is read as well.
    Snappy,
    /// An LZ4 frame of independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The attribute bits.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec of these attribute bits; `None` for 5 and above.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The name in configurations and in `kafka-dump-log`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    fn broken(self, why: impl Into<String>) -> BatchError {
        BatchError::Inflate { codec: self, why: why.into() }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A level that its codec does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{codec} has no compression level {level}; {least} to {most} are allowed")]
pub struct InvalidLevel {
    /// The codec.
    pub codec: Codec,
    /// The level that was asked for.
    pub level: i32,
    /// The lowest it has.
    pub least: i32,
    /// The highest it has.
    pub most: i32,
}

/// A codec and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self { codec: Codec::None, level: 0 };

    /// `codec` at Kafka's default level: gzip -1 (zlib's own choice), lz4 9, zstd 3.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let level = match codec {
            Codec::Gzip => -1,
            Codec::Lz4 => 9,
            Codec::Zstd => 3,
            Codec::None | Codec::Snappy => 0,
        };
        Self { codec, level }
    }

    /// `codec` at `level`, within Kafka's ranges: gzip 1 to 9 or -1, lz4 1 to 17, zstd -131072 to 22. Codecs
    /// without levels take any and ignore it. lz4 is written at one speed here, whatever its level.
    ///
    /// # Errors
    /// [`InvalidLevel`].
    pub fn with_level(codec: Codec, level: i32) -> Result<Self, InvalidLevel> {
        let (least, most) = match codec {
            Codec::None | Codec::Snappy => return Ok(Self::new(codec)),
            Codec::Gzip => (1, 9),
            Codec::Lz4 => (1, 17),
            Codec::Zstd => (-131_072, 22),
        };
        if (least..=most).contains(&level) || (codec == Codec::Gzip && level == -1) {
            Ok(Self { codec, level })
        } else {
            Err(InvalidLevel { codec, level, least, most })
        }
    }

    /// The codec.
    #[must_use]
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The level; 0 for codecs that have none.
    #[must_use]
    pub fn level(self) -> i32 {
        self.level
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self::new(codec)
    }
}

/// zstd knows no smaller window, and no producer's level asks for a larger one.
const ZSTD_WINDOW_LOG_LEAST: u32 = 10;
const ZSTD_WINDOW_LOG_MOST: u32 = 27;

/// How far a compressed piece may inflate before it counts as a bomb: the larger of a floor and a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InflateLimits {
    /// Always allowed, in bytes.
    pub floor_bytes: u64,
    /// Allowed per compressed byte.
    pub ratio: u64,
}

impl Default for InflateLimits {
    /// 64 MiB, or a hundred times the compressed size where that is more.
    fn default() -> Self {
        Self { floor_bytes: 64 << 20, ratio: 100 }
    }
}

impl InflateLimits {
    /// The cap for a piece of `compressed` bytes.
    #[must_use]
    pub fn cap_bytes(&self, compressed: usize) -> u64 {
        self.floor_bytes.max(self.ratio.saturating_mul(compressed as u64))
    }

    /// The largest window a zstd frame may ask for, as a power of two: twice the floor, and never more than the
    /// 128 MiB of zstd's highest level.
    fn zstd_window_log_max(&self) -> u32 {
        self.floor_bytes.saturating_mul(2).max(1).ilog2().clamp(ZSTD_WINDOW_LOG_LEAST, ZSTD_WINDOW_LOG_MOST)
    }
}

/// What walking and reading compressed batches keeps between batches: codec contexts and the window. Empty,
/// and without any allocation, until a compressed batch comes by. One a connection or thread.
#[derive(Default)]
pub struct Scratch {
    decoders: Decoders,
    window: Vec<u8>,
}

impl Scratch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream over `compressed`, into this scratch's window.
    pub(super) fn window<'s>(
        &'s mut self,
        codec: Codec,
        compressed: &'s [u8],
        limits: &InflateLimits,
    ) -> Result<Window<'s>, BatchError> {
        let inflater = Inflater::new(codec, compressed, limits, &mut self.decoders)?;
        Ok(Window::new(inflater, &mut self.window))
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("window_bytes", &self.window.capacity()).finish_non_exhaustive()
    }
}

/// The contexts of each codec, made when first needed.
#[derive(Default)]
struct Decoders {
    gzip: gzip::Context,
    snappy: snappy::Context,
    lz4: lz4::Context,
    zstd: zstandard::Context,
}

/// One compressed piece on its way out, under a cap.
pub(super) struct Inflater<'s> {
    codec: Codec,
    stream: Stream<'s>,
    produced: u64,
    cap: u64,
}

enum Stream<'s> {
    Gzip(gzip::Stream<'s>),
    Snappy(snappy::Stream<'s>),
    Lz4(lz4::Stream<'s>),
    Zstd(zstandard::Stream<'s>),
}

impl<'s> Inflater<'s> {
    fn new(
        codec: Codec,
        compressed: &'s [u8],
        limits: &InflateLimits,
        decoders: &'s mut Decoders,
    ) -> Result<Self, BatchError> {
        let cap = limits.cap_bytes(compressed.len());
        let stream = match codec {
            Codec::None => return Err(codec.broken("the batch is not compressed")),
            Codec::Gzip => Stream::Gzip(gzip::Stream::new(compressed, &mut decoders.gzip)),
            Codec::Snappy => Stream::Snappy(snappy::Stream::new(compressed, cap, &mut decoders.snappy)?),
            Codec::Lz4 => Stream::Lz4(lz4::Stream::new(compressed, &mut decoders.lz4)?),
            Codec::Zstd => {
                let window_log_max = limits.zstd_window_log_max();
                Stream::Zstd(zstandard::Stream::new(compressed, window_log_max, &mut decoders.zstd)?)
            }
        };
        Ok(Self { codec, stream, produced: 0, cap })
    }

    /// Inflates into the front of `out`, which must not be empty, and says how much. 0: the piece has ended,
    /// and nothing follows it.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        debug_assert!(!out.is_empty());
        let count = match &mut self.stream {
            Stream::Gzip(stream) => stream.fill(out),
            Stream::Snappy(stream) => stream.fill(out),
            Stream::Lz4(stream) => stream.fill(out),
            Stream::Zstd(stream) => stream.fill(out),
        }?;
        self.produced += count as u64;
        if self.produced > self.cap {
            return Err(BatchError::InflatesTooFar { codec: self.codec, limit: self.cap });
        }
        Ok(count)
    }
}

/// A block that was inflated aside because the caller's window had no room for all of it.
#[derive(Default)]
struct Aside {
    block: Vec<u8>,
    start: usize,
    end: usize,
}

impl Aside {
    /// What is kept between pieces; a block that one odd piece blew up is given back.
    const KEPT_SIZE_MAX: usize = 1 << 20;

    fn clear(&mut self) {
        if self.block.len() > Self::KEPT_SIZE_MAX {
            self.block = Vec::new();
        }
        (self.start, self.end) = (0, 0);
    }

    /// Room for a block of up to `len` bytes; [`Aside::hold`] says how many it became.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.block.len() < len {
            self.block.resize(len, 0);
        }
        &mut self.block[..len]
    }

    fn hold(&mut self, len: usize) {
        (self.start, self.end) = (0, len);
    }

    /// Moves what is held, as far as `out` has room.
    fn drain(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.end - self.start);
        out[..count].copy_from_slice(&self.block[self.start..self.start + count]);
        self.start += count;
        count
    }
}

/// Inflates a whole compressed piece into one buffer that grows with what really comes out.
///
/// # Errors
/// `Inflate` where the piece is broken, `InflatesTooFar` beyond the cap of `limits`.
pub fn inflate_to_vec(
    codec: Codec,
    compressed: &[u8],
    limits: &InflateLimits,
    scratch: &mut Scratch,
) -> Result<Vec<u8>, BatchError> {
    if codec == Codec::None {
        return Ok(compressed.to_vec());
    }
    let mut window = scratch.window(codec, compressed, limits)?;
    let mut out = Vec::with_capacity(compressed.len().saturating_mul(2).min(1 << 20));
    while window.refill()? {
        out.extend_from_slice(window.available());
        window.consume(window.available().len());
    }
    Ok(out)
}

/// [`inflate_to_vec`] with a scratch of its own, as shared bytes.
pub(super) fn inflate_to_bytes(
    codec: Codec,
    compressed: &[u8],
    limits: &InflateLimits,
) -> Result<Bytes, BatchError> {
    inflate_to_vec(codec, compressed, limits, &mut Scratch::new()).map(Bytes::from)
}

#[cfg(test)]
mod tests;
