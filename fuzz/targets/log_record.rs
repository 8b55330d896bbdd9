//! What stands in logs and files in the message format: two bytes that choose the message, two of version, then
//! the message.
#![no_main]

use bytes::Bytes;
use klamm::protocol::Decoder;
use klamm::protocol::messages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_seeds("log_record"), |data: &[u8]| {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(data));
    let (index, version) = (decoder.uint16(), decoder.int16());
    let Some(entry) = messages::ALL.get(usize::from(index)) else { return };
    klamm_fuzz::recode(entry, &decoder.take_remaining(), version);
});
