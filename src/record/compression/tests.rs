//! Round trips through every codec, and bytes that lie.

use proptest::prelude::*;

use super::*;

fn all() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|&codec| codec != Codec::None)
}

fn inflate(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    inflate_to_vec(codec, bytes, &InflateLimits::default(), &mut Scratch::new())
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 7 % 251) as u8).collect()
}

#[test]
fn every_codec_round_trips_across_its_block_sizes() {
    let mut scratch = Scratch::new();
    for codec in all() {
        let mut compressor = Compressor::new(codec.into());
        for len in [0, 1, 100, 32 * 1024, 64 * 1024 - 1, 64 * 1024 + 1, 300_000] {
            let input = sample(len);
            let mut out = Vec::new();
            compressor.compress_into(&input, &mut out).unwrap();
            let back = inflate_to_vec(codec, &out, &InflateLimits::default(), &mut scratch);
            assert_eq!(back.as_deref(), Ok(&*input), "{codec} {len}");
        }
    }
}

#[test]
fn every_level_that_kafka_has_round_trips() {
    let input = sample(10_000);
    for (codec, levels) in [(Codec::Gzip, 1..=9), (Codec::Lz4, 1..=17), (Codec::Zstd, -5..=22)] {
        for level in levels {
            let compression = Compression::with_level(codec, level).unwrap();
            assert_eq!(
                inflate(codec, &compress(compression, &input).unwrap()).unwrap(),
                input,
                "{codec} {level}"
            );
        }
    }
    assert!(Compression::with_level(Codec::Gzip, 10).is_err());
    assert!(Compression::with_level(Codec::Lz4, 0).is_err());
    assert!(Compression::with_level(Codec::Zstd, 23).is_err());
}

#[test]
fn lz4_and_snappy_begin_with_the_bytes_that_java_writes() {
    assert_eq!(compress(Codec::Lz4.into(), b"x").unwrap()[..7], lz4::FRAME_HEADER);
    let snappy = compress(Codec::Snappy.into(), b"x").unwrap();
    assert_eq!(snappy[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
}

#[test]
fn gzip_members_may_follow_each_other() {
    let mut two = compress(Codec::Gzip.into(), b"one ").unwrap().to_vec();
    two.extend_from_slice(&compress(Codec::Gzip.into(), b"two").unwrap());
    assert_eq!(inflate(Codec::Gzip, &two).unwrap(), b"one two");
    two.push(0);
    assert!(inflate(Codec::Gzip, &two).is_err());
}

#[test]
fn a_bare_snappy_block_is_read() {
    let raw = snap::raw::Encoder::new().compress_vec(&sample(100_000)).unwrap();
    assert_eq!(inflate(Codec::Snappy, &raw).unwrap(), sample(100_000));
}

#[test]
fn cve_2023_34455_a_snappy_block_that_claims_gigabytes_is_refused_before_allocating() {
    for claim in [1u64 << 30, 4_294_967_295, 1 << 20] {
        let mut block = Vec::new();
        let mut rest = claim;
        while rest >= 0x80 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.extend([rest as u8, 0]);
        let mut scratch = Scratch::new();
        let bare = inflate_to_vec(Codec::Snappy, &block, &InflateLimits::default(), &mut scratch);
        assert!(bare.is_err());
        let mut framed = snappy::XERIAL_HEADER.to_vec();
        framed.extend((block.len() as u32).to_be_bytes());
        framed.extend(&block);
        assert!(inflate_to_vec(Codec::Snappy, &framed, &InflateLimits::default(), &mut scratch).is_err());
        assert!(scratch.decoders.snappy.aside.block.len() < 1 << 10);
    }
    let mut framed = snappy::XERIAL_HEADER.to_vec();
    framed.extend(i32::MAX.to_be_bytes());
    assert!(inflate(Codec::Snappy, &framed).is_err());
    framed.truncate(16);
    framed.extend((-1i32).to_be_bytes());
    assert!(inflate(Codec::Snappy, &framed).is_err());
}

#[test]
fn s1_8_decompression_bombs_stop_at_the_cap() {
    let limits = InflateLimits { floor_bytes: 1 << 20, ratio: 10 };
    let zeros = vec![0; 8 << 20];
    let mut scratch = Scratch::new();
    for codec in all() {
        let bomb = compress(codec.into(), &zeros).unwrap();
        let cap = limits.cap_bytes(bomb.len());
        assert!(cap < 8 << 20, "{codec} is too big for a bomb: {}", bomb.len());
        assert_eq!(
            inflate_to_vec(codec, &bomb, &limits, &mut scratch),
            Err(BatchError::InflatesTooFar { codec, limit: cap })
        );
    }
    assert!(scratch.window.capacity() <= 1 << 20, "the window stays small");
}

#[test]
fn s1_8_a_zstd_frame_may_not_ask_for_a_window_beyond_the_limits() {
    // Magic, a descriptor without content size, a window of 2^31 bytes, and of 2^27.
    let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, (exponent - 10) << 3, 1, 0, 0];
    let refused = |exponent, floor_bytes| {
        let limits = InflateLimits { floor_bytes, ratio: 0 };
        inflate_to_vec(Codec::Zstd, &frame(exponent), &limits, &mut Scratch::new()).is_err()
    };
    assert!(refused(31, 64 << 20) && refused(28, 64 << 20) && !refused(27, 64 << 20));
    assert!(refused(22, 1 << 20) && !refused(21, 1 << 20));
}

#[test]
fn s1_8_pieces_that_end_early_or_go_on_are_broken() {
    let mut scratch = Scratch::new();
    let mut refused =
        |codec, piece: &[u8]| inflate_to_vec(codec, piece, &InflateLimits::default(), &mut scratch).is_err();
    for codec in all() {
        let whole = compress(codec.into(), &sample(400)).unwrap();
        // Snappy's framing has no end mark: a piece cut between two blocks is a shorter piece.
        for len in (0..whole.len()).filter(|&len| codec != Codec::Snappy || len != 16) {
            assert!(refused(codec, &whole[..len]), "{codec} cut at {len}");
        }
        let mut longer = whole.to_vec();
        longer.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(refused(codec, &longer), "{codec} with a tail");
    }
}

#[test]
fn lz4_blocks_that_depend_on_each_other_are_refused() {
    let mut frame = lz4::FRAME_HEADER;
    frame[4] = 0x40;
    let Err(BatchError::Inflate { why, .. }) = inflate(Codec::Lz4, &frame) else { panic!("accepted") };
    assert!(why.contains("depend"), "{why}");
}

#[test]
fn a_window_grows_only_for_a_record_that_really_came_and_shrinks_back() {
    let mut scratch = Scratch::new();
    let limits = InflateLimits::default();
    let piece = compress(Codec::Zstd.into(), &sample(3 << 20)).unwrap();
    let mut window = scratch.window(Codec::Zstd, &piece, &limits).unwrap();
    assert!(window.hold(3 << 20).unwrap());
    assert!(!window.hold(1 << 30).unwrap(), "the stream has no more");
    let _ = window;
    assert!(scratch.window.len() >= 3 << 20);
    scratch.window(Codec::Zstd, &piece, &limits).unwrap();
    assert!(scratch.window.len() < 1 << 20);
}

proptest! {
    #[test]
    fn any_bytes_round_trip(input in proptest::collection::vec(any::<u8>(), 0..2_000), which in 1usize..5) {
        let codec = Codec::ALL[which];
        prop_assert_eq!(inflate(codec, &compress(codec.into(), &input).unwrap()).unwrap(), input);
    }

    #[test]
    fn s1_8_no_bytes_make_a_codec_panic(input: Vec<u8>, which in 1usize..5) {
        let _ = inflate(Codec::ALL[which], &input);
    }

    #[test]
    fn s1_8_no_flipped_byte_makes_a_codec_panic(at: prop::sample::Index, flip in 1u8.., which in 1usize..5) {
        let codec = Codec::ALL[which];
        let mut piece = compress(codec.into(), &sample(500)).unwrap().to_vec();
        let at = at.index(piece.len());
        piece[at] ^= flip;
        let _ = inflate(codec, &piece);
    }
}
