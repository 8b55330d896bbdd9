//! What a client reads from a broker it should not trust: two bytes of API key, two of version, a response header
//! and a response.
#![no_main]

use bytes::Bytes;
use klamm::protocol::frame::ResponseHeader;
use klamm::protocol::messages;
use klamm::protocol::schema::Kind;
use klamm::protocol::{ApiKey, Decoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_seeds("response"), |data: &[u8]| {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(data));
    let (key, version) = (decoder.int16(), decoder.int16());
    let Some(key) = ApiKey::from_key(key) else { return };
    if ResponseHeader::decode(&mut decoder, key, version).is_err() {
        return;
    }
    let Some(entry) = messages::entry(Kind::Response, key.key(), None) else { return };
    klamm_fuzz::recode(entry, &decoder.take_remaining(), version);
});
