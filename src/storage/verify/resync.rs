//! Finding the next sound batch behind bytes that are none, so that one bad batch does not hide the rest of its file.

use std::io;

use super::window::{TRUSTED_SIZE_MAX, Window};
use crate::record::{BATCH_HEADER_SIZE, BatchFrame, BatchHeader, BatchRef, Codec};
use crate::types::Offset;

/// Where the magic stands in a batch.
const MAGIC_AT: u64 = 16;
/// The magic that is looked for.
const MAGIC_BYTE: u8 = 2;
/// The attribute bits that mean something.
const KNOWN_ATTRIBUTES: i16 = 0b111_1111;

/// The first sound batch behind `bad` whose offsets are at least `expected` and below `limit`: its position and base
/// offset. First where the bad batch's own length leads, then byte by byte.
pub(super) fn next_sound(
    window: &mut Window<'_>,
    bad: u64,
    expected: Offset,
    limit: Option<Offset>,
) -> io::Result<Option<(u64, Offset)>> {
    if let Ok(frame) = BatchFrame::parse(window.bytes(bad, BATCH_HEADER_SIZE)?)
        && let Some(base) = sound_at(window, bad + frame.size() as u64, expected, limit)?
    {
        return Ok(Some((bad + frame.size() as u64, base)));
    }
    let mut position = bad + 1;
    while position + (BATCH_HEADER_SIZE as u64) <= window.end() {
        let held = window.held_from(position + MAGIC_AT)?;
        if held.is_empty() {
            break;
        }
        match memchr::memchr(MAGIC_BYTE, held) {
            None => position += held.len() as u64,
            Some(at) => {
                position += at as u64;
                if let Some(base) = sound_at(window, position, expected, limit)? {
                    return Ok(Some((position, base)));
                }
                position += 1;
            }
        }
    }
    Ok(None)
}

/// The base offset of the sound batch at `position`, if there is one.
fn sound_at(
    window: &mut Window<'_>,
    position: u64,
    expected: Offset,
    limit: Option<Offset>,
) -> io::Result<Option<Offset>> {
    let end = window.end();
    let Ok(header) = BatchHeader::parse(window.bytes(position, BATCH_HEADER_SIZE)?) else { return Ok(None) };
    let size = header.size();
    if !is_plausible(&header, expected, limit) || position + size as u64 > end {
        return Ok(None);
    }
    if size > TRUSTED_SIZE_MAX {
        let crc = window.crc(position + 21, size as u64 - 21)?;
        return Ok((crc == Some(header.crc)).then_some(header.base_offset));
    }
    let is_sound =
        BatchRef::first(window.bytes(position, size)?).is_ok_and(|batch| batch.check_crc().is_ok());
    Ok(is_sound.then_some(header.base_offset))
}

fn is_plausible(header: &BatchHeader, expected: Offset, limit: Option<Offset>) -> bool {
    header.base_offset >= expected
        && header.base_offset - expected <= i64::from(i32::MAX)
        && limit.is_none_or(|limit| header.last_offset() < limit)
        && header.attributes & !KNOWN_ATTRIBUTES == 0
        && matches!(header.codec(), Ok(Codec::None | Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd))
        && header.last_offset_delta >= 0
        && (0..=header.last_offset_delta.saturating_add(1)).contains(&header.record_count)
}
