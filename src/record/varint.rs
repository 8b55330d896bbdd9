//! Kafka's zig-zag varints, read at the front of a slice and written to its end.
//!
//! One- and two-byte forms, nearly all there are, stay inline; the rest is a call.

use super::error::RecordFault;

/// The longest varint and varlong.
pub(super) const VARINT_SIZE_MAX: usize = 5;
pub(super) const VARLONG_SIZE_MAX: usize = 10;

#[inline(always)]
fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[inline(always)]
fn unzigzag_32(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

/// Takes a varint off the front.
#[inline(always)]
pub(super) fn take_varint(input: &mut &[u8]) -> Result<i32, RecordFault> {
    match **input {
        [first, ..] if first < 0x80 => {
            *input = &input[1..];
            Ok(unzigzag_32(u32::from(first)))
        }
        [first, second, ..] if second < 0x80 => {
            *input = &input[2..];
            Ok(unzigzag_32(u32::from(first & 0x7f) | u32::from(second) << 7))
        }
        // Bits beyond the 32nd are dropped, as Kafka's reader drops them.
        _ => take_long_form(input, VARINT_SIZE_MAX).map(|raw| unzigzag_32(raw as u32)),
    }
}

/// Takes a varlong off the front.
#[inline(always)]
pub(super) fn take_varlong(input: &mut &[u8]) -> Result<i64, RecordFault> {
    match **input {
        [first, ..] if first < 0x80 => {
            *input = &input[1..];
            Ok(unzigzag(u64::from(first)))
        }
        [first, second, ..] if second < 0x80 => {
            *input = &input[2..];
            Ok(unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7))
        }
        _ => take_long_form(input, VARLONG_SIZE_MAX).map(unzigzag),
    }
}

#[inline(never)]
fn take_long_form(input: &mut &[u8], size_max: usize) -> Result<u64, RecordFault> {
    let mut raw = 0u64;
    for (index, &byte) in input.iter().take(size_max).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(raw);
        }
    }
    Err(if input.len() < size_max { RecordFault::OutOfBytes } else { RecordFault::EndlessVarint })
}

/// Appends `value` as a varlong; a varint is the same for the same number.
#[inline]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// The bytes that [`put_varlong`] takes.
#[inline]
pub(super) fn varlong_size(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    // Seven bits a byte, and a byte for zero.
    ((70 - (raw | 1).leading_zeros()) / 7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_match_the_bytes_that_protobuf_documents() {
        for (value, bytes) in
            [(0i64, &[0u8][..]), (-1, &[1]), (1, &[2]), (-65, &[0x81, 1]), (300, &[0xd8, 4])]
        {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(take_varlong(&mut &*out), Ok(value));
            assert_eq!(take_varint(&mut &*out), Ok(value as i32));
        }
    }

    #[test]
    fn a_varint_that_does_not_end_is_refused() {
        assert_eq!(take_varint(&mut &[0xff; 5][..]), Err(RecordFault::EndlessVarint));
        assert_eq!(take_varlong(&mut &[0xff; 10][..]), Err(RecordFault::EndlessVarint));
        assert_eq!(take_varint(&mut &[0xff; 4][..]), Err(RecordFault::OutOfBytes));
        assert_eq!(take_varint(&mut &[][..]), Err(RecordFault::OutOfBytes));
    }

    proptest! {
        #[test]
        fn varlongs_round_trip(value: i64, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_size(value));
            out.extend(&tail);
            let mut rest = &*out;
            prop_assert_eq!(take_varlong(&mut rest), Ok(value));
            prop_assert_eq!(rest, &*tail);
        }

        #[test]
        fn varints_round_trip(value: i32) {
            let mut out = Vec::new();
            put_varlong(&mut out, i64::from(value));
            prop_assert_eq!(take_varint(&mut &*out), Ok(value));
        }
    }
}
