//! A message of format 0 or 1, as an old directory may hold it.
#![no_main]

use klamm::record::{LegacyMessage, Scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_batch_seeds("old_message", old), |data: &[u8]| {
    let Ok(message) = LegacyMessage::first(data) else { return };
    let _ = message.for_each(&klamm_fuzz::LIMITS, &mut Scratch::new(), |inner| {
        let _ = (inner.is_valid(), inner.timestamp_type(), inner.codec());
    });
});

fn old(message: &[u8]) -> Option<Vec<u8>> {
    LegacyMessage::first(message).ok().map(|message| message.bytes.to_vec())
}
