//! A compressed piece: a byte that picks the codec, then the piece. What inflates, packs and inflates to the same.
#![no_main]

use klamm::record::{Codec, Scratch, compress, inflate_to_vec};
use klamm_fuzz::LIMITS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_batch_seeds("inflate", klamm_fuzz::packed), |data: &[u8]| {
    let Some((id, piece)) = data.split_first() else { return };
    let codec = Codec::ALL[1 + usize::from(*id) % 4];
    let mut scratch = Scratch::new();
    let Ok(plain) = inflate_to_vec(codec, piece, &LIMITS, &mut scratch) else { return };
    assert!(plain.len() as u64 <= LIMITS.cap_bytes(piece.len()));
    let packed = compress(codec.into(), &plain).expect("packed");
    assert_eq!(inflate_to_vec(codec, &packed, &LIMITS, &mut scratch).as_ref(), Ok(&plain));
});
